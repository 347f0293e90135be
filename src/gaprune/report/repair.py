"""What a model card says of a repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaprune.signals import PRESERVATION

__all__ = ["harm_text", "repair_text"]


def repair_text(repair: Mapping[str, Any] | None) -> str:
    """Return what repair did, from what the provenance says of it."""
    if repair is None:
        return "none"
    if not repair["kept"]:
        return f"tried and left out; {harm_text(repair)}"
    return (
        f"what stays was refit by least squares (ridge {repair['ridge']:g}, {repair['general_share']:.0%} general "
        f"texts); {harm_text(repair)}"
    )


def harm_text(repair: Mapping[str, Any]) -> str:
    """Return how the repaired model was judged beside the one without."""
    harms = ", ".join(
        f"{kind} {repair['harm_repaired'][kind]:.4f} instead of {harm:.4f}"
        for kind, harm in repair["harm_cut"].items()
    )
    return f"harm on held-out triplets (increase of the loss + {PRESERVATION:g} x distance of embeddings): {harms}"
