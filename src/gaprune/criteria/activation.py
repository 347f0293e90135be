"""Activation norms, and block influence for layers."""

from __future__ import annotations

from statistics import fmean
from typing import ClassVar

from torch import Tensor

from gaprune.criteria.base import Calibrated, LayerCriterion, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.needs import DataKind
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("activation")
class Activation(Calibrated, WeightCriterion, UnitCriterion, LayerCriterion):
    """Strength of activations, whatever reads them; a layer is as important as it turns hidden states."""

    summary: ClassVar[str] = "norm of the input, the same for all weights of a column"
    unit_summary: ClassVar[str] = "norm of its activation"
    layer_summary: ClassVar[str] = "block influence: how far it turns hidden states (ShortGPT, arXiv 2403.03853)"
    source: ClassVar[str] = "Hu et al. 2016 (Network Trimming), arXiv 1607.03250"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``sqrt(E[a^2])`` for every row."""
        return self.mean(inputs, "input_square").sqrt().expand_as(inputs.weight).clone()

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the root mean square of the activation, over the columns of the unit together."""
        return self.mean(inputs, "input_square").view(inputs.units, -1).sum(1).sqrt()

    @property
    def layer_needs(self) -> frozenset[DataKind]:
        """The chosen data."""
        return self.kinds

    def layer_importance(self, inputs: LayerInputs) -> float:
        """Return one minus the mean cosine between a token's state before and after the layer."""
        return fmean(inputs.effect(kind).block_influence for kind in self.kinds)
