"""Random pruning, the control."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gaprune.criteria.base import LayerCriterion, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.registry import register


@register("random")
class Random(WeightCriterion, UnitCriterion, LayerCriterion):
    """Uniform noise, the same for the same seed and layer name."""

    summary: ClassVar[str] = "uniform noise"
    unit_summary: ClassVar[str] = "uniform noise"
    layer_summary: ClassVar[str] = "uniform noise"
    source: ClassVar[str] = "the control"

    @property
    def depends_on_seed(self) -> bool:
        """Always true: the numbers are drawn."""
        return True

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        return _uniform(inputs, inputs.weight.shape)

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        return _uniform(inputs, (inputs.units,))

    def layer_importance(self, inputs: LayerInputs) -> float:
        """Return a uniform number in [0, 1)."""
        generator = torch.Generator().manual_seed(zlib.crc32(b"layers") + inputs.seed)
        return float(torch.rand(inputs.layer + 1, generator=generator)[-1])


def _uniform(inputs: WeightInputs | UnitInputs, shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(inputs.name.encode()) + inputs.seed)
    return torch.rand(*shape, generator=generator).to(inputs.weight.device)
