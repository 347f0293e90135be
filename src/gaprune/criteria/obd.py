"""Optimal Brain Damage."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gaprune.criteria.base import Calibrated, WeightCriterion
from gaprune.criteria.inputs import WeightInputs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("obd")
class OptimalBrainDamage(Calibrated, WeightCriterion):
    """Second-order estimate of the change of the loss, with the Fisher for the diagonal of the Hessian."""

    summary: ClassVar[str] = "F w^2: second-order loss change"
    source: ClassVar[str] = "LeCun et al. 1989 (Optimal Brain Damage)"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"fisher"})

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``F w^2`` (twice the change of the loss)."""
        return self.mean(inputs, "fisher") * inputs.weight.square()
