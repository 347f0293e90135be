"""What a model card says of a repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["repair_text"]


def repair_text(repair: Mapping[str, Any] | None) -> str:
    """Return what repair did, from what the provenance says of it."""
    if repair is None:
        return "none"
    if not repair["kept"]:
        return "tried and left out: it lost on held-out triplets"
    losses = ", ".join(
        f"{kind} {repair['loss_repaired'][kind]:.4f} instead of {loss:.4f}"
        for kind, loss in repair["loss_cut"].items()
    )
    return (
        f"what stays was refit by least squares (ridge {repair['ridge']:g}, {repair['general_share']:.0%} general "
        f"texts); loss on held-out triplets: {losses}"
    )
