"""The outcome of structured pruning: what was removed, and how many parameters that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import Tensor

from gaprune.pruning.removable.base import RemovedUnits

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class StructuredPruning:
    """Everything that was removed."""

    cuts: tuple[RemovedUnits, ...]
    parent: int
    selected: int
    child: int

    @classmethod
    def of(
        cls,
        cuts: Sequence[RemovedUnits],
        parent: SentenceTransformer,
        child: SentenceTransformer,
        *,
        selected: Iterable[Tensor],
    ) -> Self:
        """Return the outcome; every selected parameter counts once, however many kinds it belongs to."""
        distinct = {id(parameter): parameter.numel() for parameter in selected}
        return cls(tuple(cuts), _size(parent), sum(distinct.values()), _size(child))

    def __str__(self) -> str:
        """Return a sentence for people."""
        return ", ".join(map(str, self.cuts))

    @property
    def removed(self) -> int:
        """Number of removed parameters."""
        return self.parent - self.child


def _size(model: SentenceTransformer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
