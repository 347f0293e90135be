"""What a run has to measure, and on which kinds of calibration data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gaprune.statistics.sums import Statistic

DataKind = Literal["domain", "general"]
"""A kind of calibration data."""


@dataclass(frozen=True)
class Needs:
    """The calibration statistics and texts that criteria ask for; ``a | b`` is what both ask for together.

    Args:
        domain: Statistics measured on domain triplets.
        general: Statistics measured on general triplets.
        texts: Kinds of data whose triplets are used in other ways too.
    """

    domain: frozenset[Statistic] = frozenset()
    general: frozenset[Statistic] = frozenset()
    texts: frozenset[DataKind] = frozenset()

    @classmethod
    def together(cls, needs: Iterable[Needs]) -> Needs:
        """Return what all of ``needs`` ask for."""
        found = cls()
        for each in needs:
            found |= each
        return found

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.domain | other.domain, self.general | other.general, self.texts | other.texts)

    def __bool__(self) -> bool:
        return bool(self.domain or self.general or self.texts)

    def wants(self, kind: DataKind) -> bool:
        """Return whether triplets of this kind are used at all."""
        return kind in self.texts or bool(self.domain if kind == "domain" else self.general)
