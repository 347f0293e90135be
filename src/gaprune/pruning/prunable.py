"""How much of a parent was up for removal when whole units were cut out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gaprune.models.blocks import blocks
from gaprune.models.units import UnitGroup
from gaprune.models.vocabulary import vocabulary
from gaprune.pruning.removed_units import RemovedUnits, StructuredPruning

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PrunableParameters"]


class PrunableParameters:
    """Counts the parameters of a parent that are up for removal, each once.

    Args:
        parent: The parent.
    """

    def __init__(self, parent: SentenceTransformer) -> None:
        self._parent = parent
        self._blocks = self._units = self._table = 0

    def add_blocks(self) -> None:
        """All layers are up for removal."""
        self._blocks = sum(weight.numel() for block in blocks(self._parent) for weight in block.parameters())

    def add_units(self, groups: Iterable[UnitGroup]) -> None:
        """All units of these groups are."""
        self._units = sum(group.units * group.parameters for group in groups)

    def add_table(self) -> None:
        """The embedding table is."""
        place = vocabulary(self._parent)
        self._table = place.rows * place.width

    def cuts(self, cuts: Iterable[RemovedUnits], child: SentenceTransformer) -> StructuredPruning:
        """Return what went into ``child``."""
        return StructuredPruning(
            tuple(cuts),
            parent=sum(weight.numel() for weight in self._parent.parameters()),
            selected=(self._blocks or self._units) + self._table,
            child=sum(weight.numel() for weight in child.parameters()),
        )
