"""Magnitude pruning."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gaprune.criteria.base import LayerCriterion, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.registry import register


@register("magnitude")
class Magnitude(WeightCriterion, UnitCriterion, LayerCriterion):
    """The absolute weight."""

    summary: ClassVar[str] = "|w|"
    unit_summary: ClassVar[str] = "norm of the weights that produce it times norm of those that read it"
    layer_summary: ClassVar[str] = "sum of squares of its weights"
    source: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626"

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``|w|``."""
        return inputs.weight.abs()

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the norm of the weights that produce the unit times the norm of those that read it."""
        return (inputs.producer_square * inputs.weight.square().sum((0, 2))).sqrt()

    def layer_importance(self, inputs: LayerInputs) -> float:
        """Return the sum of squares of the layer's weights."""
        return inputs.weight_square
