"""Which zeros are held: all that are there, unless targets are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.selection import select

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["held_matrices", "zeros_of"]


def zeros_of(linear_layers: Sequence[LinearLayer]) -> dict[str, Tensor]:
    """Return which weights are exactly zero, true for zeros, ``(out, in)`` by name of the matrices that have any."""
    found = {matrix.name: matrix.module.weight.detach() == 0 for matrix in linear_layers}
    return {name: zeros for name, zeros in found.items() if zeros.any()}


def held_matrices(model: SentenceTransformer, targets: Sequence[str] | None) -> list[LinearLayer]:
    """Return the matrices whose zeros are held: those named, or all, whichever run of pruning made them.

    Raises:
        SelectionError: If a target matches nothing.
    """
    found = linear_layers(model)
    return found if targets is None else select(found, targets)
