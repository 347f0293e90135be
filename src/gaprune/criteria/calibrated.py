"""What criteria share that look at one kind of calibration data, or at both with equal weight."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from gaprune.criteria.base import Criterion
from gaprune.criteria.inputs import UnitInputs, WeightInputs
from gaprune.criteria.needs import DataKind, Needs
from gaprune.statistics.sums import Statistic


class Calibrated(Criterion):
    """Mixin that names the statistics of a criterion once and asks for them on the chosen data."""

    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset()
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset()

    calibration: Literal["domain", "general", "mix"] = Field(
        "domain", description="Data it looks at: domain, general, or mix (both, with equal weight)."
    )

    @property
    def kinds(self) -> frozenset[DataKind]:
        """The kinds of data that the criterion looks at."""
        return frozenset({"domain", "general"} if self.calibration == "mix" else {self.calibration})

    @property
    def weight_needs(self) -> Needs:
        """``weight_statistics`` on the chosen data."""
        return self._needs(self.weight_statistics)

    @property
    def unit_needs(self) -> Needs:
        """``unit_statistics`` on the chosen data."""
        return self._needs(self.unit_statistics)

    def _needs(self, statistics: frozenset[Statistic]) -> Needs:
        none: frozenset[Statistic] = frozenset()
        domain, general = (statistics if kind in self.kinds else none for kind in ("domain", "general"))
        return Needs(domain, general)

    def mean(self, inputs: WeightInputs | UnitInputs, statistic: str) -> Tensor:
        """Return a statistic on the chosen data."""
        found: list[Tensor] = [getattr(inputs.statistics(kind), statistic) for kind in sorted(self.kinds)]
        return found[0] if len(found) == 1 else (found[0] + found[1]) / 2
