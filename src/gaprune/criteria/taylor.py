"""First-order Taylor pruning."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gaprune.criteria.base import Calibrated, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import UnitInputs, WeightInputs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("taylor")
class Taylor(Calibrated, WeightCriterion, UnitCriterion):
    """First-order estimate of the change of the loss without a weight."""

    summary: ClassVar[str] = "|g w|: first-order loss change, g the mean gradient"
    unit_summary: ClassVar[str] = "absolute mean gate gradient"
    source: ClassVar[str] = "Molchanov et al. 2017, arXiv 1611.06440"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"gradient"})
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset({"gate"})

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``|g w|``."""
        return (self.mean(inputs, "gradient") * inputs.weight).abs()

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the absolute mean gate gradient."""
        return self.mean(inputs, "gate").abs()
