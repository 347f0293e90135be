"""The Domain Alignment Importance as published."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gaprune.criteria.base import Granularity, WeightCriterion
from gaprune.criteria.inputs import WeightInputs
from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic


@register("dai-paper")
class PaperDai(WeightCriterion):
    """The paper's formula with its published constants; at these scales it ranks almost like magnitude."""

    summary: ClassVar[str] = "[(F_dom - beta F_gen)|w| + gamma sqrt|w|] (1 + alpha s), the factor within [0.8, 1.2]"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844"
    terms: ClassVar[Mapping[Granularity, Mapping[str, object]]] = MappingProxyType(
        {"weights": {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}}
    )

    alpha: float = Field(0.2, description="Weight of the alignment s.")
    beta: float = Field(1.0, description="Weight of the general Fisher that is subtracted.")
    gamma: float = Field(0.5, description="Weight of the square root of the magnitude.")
    alignment: Literal["weight", "matrix"] = Field(
        "weight",
        description="s: a smoothed product of unit gradients per weight (as released), or one cosine per layer.",
    )

    @property
    def weight_needs(self) -> Needs:
        """Fisher and mean gradient on both kinds of data."""
        both: frozenset[Statistic] = frozenset({"fisher", "gradient"})
        return Needs(domain=both, general=both)

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return the paper's DAI, ``(out, in)``; it can be negative."""
        domain, general = inputs.statistics("domain"), inputs.statistics("general")
        magnitude = inputs.weight.abs()
        need = (domain.fisher - self.beta * general.fisher) * magnitude + self.gamma * magnitude.sqrt()
        aligned = self._alignment(domain.gradient, general.gradient)
        return need * (1 + self.alpha * aligned).clamp(0.8, 1.2)

    def _alignment(self, domain: Tensor, general: Tensor) -> Tensor:
        product = _unit(domain) * _unit(general)
        if self.alignment == "matrix":
            return product.sum()
        # As released: a ninth of the sum over the neighbourhood everywhere, with zeros beyond the border.
        smoothed: Tensor = functional.avg_pool2d(product[None, None], 3, stride=1, padding=1)
        return smoothed[0, 0]


def _unit(gradient: Tensor) -> Tensor:
    norm: Tensor = gradient.norm()
    return gradient / norm.clamp_min(torch.finfo(gradient.dtype).tiny)
