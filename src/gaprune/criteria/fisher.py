"""The Fisher diagonal."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gaprune.criteria.base import Calibrated, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import UnitInputs, WeightInputs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("fisher")
class Fisher(Calibrated, WeightCriterion, UnitCriterion):
    """The Fisher diagonal alone; the paper's two baselines are ``fisher-general`` and ``fisher-domain``."""

    summary: ClassVar[str] = "F: mean squared gradient"
    unit_summary: ClassVar[str] = "mean squared gate gradient"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, table 1"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"fisher"})
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset({"gate"})

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``F``."""
        return self.mean(inputs, "fisher")

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the mean squared gate gradient."""
        return self.mean(inputs, "gate_fisher")
