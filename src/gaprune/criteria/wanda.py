"""Wanda: pruning by weights and activations."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.criteria.base import Calibrated, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import UnitInputs, WeightInputs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("wanda")
class Wanda(Calibrated, WeightCriterion, UnitCriterion):
    """Absolute weights times the norm of their inputs, compared within a row."""

    summary: ClassVar[str] = "|w| times the norm of its input"
    unit_summary: ClassVar[str] = "norm of its activation times norm of the weights that read it"
    source: ClassVar[str] = "Sun et al. 2023 (Wanda), arXiv 2306.11695"
    default_allocation: ClassVar[Allocation] = "row"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``|w| sqrt(E[a^2])``, with the root mean square for the norm (same order in every row)."""
        return inputs.weight.abs() * self.mean(inputs, "input_square").sqrt()

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the root of ``sum_k E[a_k^2] |w_k|^2`` over the columns ``w_k`` of the unit."""
        squares = self.mean(inputs, "input_square").view(inputs.units, -1)
        return (squares * inputs.weight.square().sum(0)).sum(1).sqrt()
