"""Which zeros are held: those of the matrices that were pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gaprune.anatomy import Matrix, matrices, select
from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["held_matrices", "is_by_units", "zeros_of"]


def zeros_of(matrices: Sequence[Matrix]) -> dict[str, Tensor]:
    """Return which weights are exactly zero, true for zeros, ``(out, in)`` by name of the matrices that have any."""
    found = {matrix.name: matrix.module.weight.detach() == 0 for matrix in matrices}
    return {name: zeros for name, zeros in found.items() if zeros.any()}


def is_by_units(provenance: Mapping[str, Any] | None) -> bool:
    """Return whether whole units were removed, so that there are no zeros to hold."""
    return provenance is not None and "cuts" in provenance["method"]


def held_matrices(
    model: SentenceTransformer, targets: Sequence[str] | None, provenance: Mapping[str, Any] | None
) -> list[Matrix]:
    """Return the matrices whose zeros are held: those named, those that were pruned, or all of the blocks.

    Raises:
        SelectionError: If a target matches nothing.
        ModelError: If the provenance names matrices that the model does not have.
    """
    found = matrices(model)
    if targets is not None:
        return select(found, targets)
    if provenance is None:
        return select(found, ["all"])
    if is_by_units(provenance):
        return []
    named = set(provenance["method"]["matrices"])
    missing = named - {matrix.name for matrix in found}
    if missing:
        raise ModelError(
            f"{min(missing)}: gaprune.json names this matrix, and the model does not have it.",
            "Say where zeros are held with --targets.",
        )
    return [matrix for matrix in found if matrix.name in named]
