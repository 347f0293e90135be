"""What a model card says of a repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaprune.statistics.degradation import PRESERVATION

__all__ = ["degradation_text", "reconstruction_text"]


def reconstruction_text(reconstruct: Mapping[str, Any] | None) -> str:
    """Return what repair did, from what the provenance says of it."""
    if reconstruct is None:
        return "none"
    if not reconstruct["kept"]:
        return f"tried and left out; {degradation_text(reconstruct)}"
    return (
        f"what stays was refit by least squares (ridge {reconstruct['ridge']:g}, "
        f"{reconstruct['general_share']:.0%} general "
        f"texts); {degradation_text(reconstruct)}"
    )


def degradation_text(reconstruct: Mapping[str, Any]) -> str:
    """Return how the repaired model was judged beside the one without."""
    degradations = ", ".join(
        f"{kind} {reconstruct['degradation_reconstructed'][kind]:.4f} instead of {degradation:.4f}"
        for kind, degradation in reconstruct["degradation_pruned"].items()
    )
    return (
        f"harm on held-out triplets (increase of the loss + {PRESERVATION:g} x distance of embeddings): {degradations}"
    )
