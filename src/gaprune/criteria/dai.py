"""The Domain Alignment Importance: the paper's, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gaprune.criteria.base import Criterion, Evidence, LayerEvidence, UnitEvidence
from gaprune.criteria.inverse import damped_inverse
from gaprune.criteria.registry import register
from gaprune.signals import MatrixSignals, Quantity

__all__ = ["DomainAlignmentImportance", "PaperDai", "rank_one"]


@register("dai-paper")
class PaperDai(Criterion):
    """The paper's formula with its published constants; at these scales it ranks almost like magnitude."""

    summary: ClassVar[str] = "[(F_dom - beta F_gen)|w| + gamma sqrt|w|] (1 + alpha s), the factor within [0.8, 1.2]"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844"
    terms: ClassVar[Mapping[str, object]] = MappingProxyType({"alpha": 0.0, "beta": 0.0, "gamma": 0.0})

    alpha: float = Field(0.2, description="Weight of the alignment s.")
    beta: float = Field(1.0, description="Weight of the general Fisher that is subtracted.")
    gamma: float = Field(0.5, description="Weight of the square root of the magnitude.")
    alignment: Literal["weight", "matrix"] = Field(
        "weight",
        description="s: a smoothed product of unit gradients for each weight (as released), or a cosine a matrix.",
    )

    @property
    def domain_needs(self) -> frozenset[Quantity]:
        """Fisher and mean gradient."""
        return frozenset({"fisher", "gradient"})

    @property
    def general_needs(self) -> frozenset[Quantity]:
        """Fisher and mean gradient."""
        return frozenset({"fisher", "gradient"})

    def importance(self, evidence: Evidence) -> Tensor:
        """Return the paper's DAI, ``(out, in)``; it can be negative."""
        domain, general = evidence.signals("domain"), evidence.signals("general")
        magnitude = evidence.weight.abs()
        need = (domain.fisher - self.beta * general.fisher) * magnitude + self.gamma * magnitude.sqrt()
        aligned = self._alignment(domain.gradient, general.gradient)
        return need * (1 + self.alpha * aligned).clamp(0.8, 1.2)

    def _alignment(self, domain: Tensor, general: Tensor) -> Tensor:
        product = _unit(domain) * _unit(general)
        if self.alignment == "matrix":
            return product.sum()
        # As released: a ninth of the neighbourhood's sum everywhere, with zeros beyond the border.
        smoothed: Tensor = functional.avg_pool2d(product[None, None], 3, stride=1, padding=1)
        return smoothed[0, 0]


def _unit(gradient: Tensor) -> Tensor:
    norm: Tensor = gradient.norm()
    return gradient / norm.clamp_min(torch.finfo(gradient.dtype).tiny)


def rank_one(values: Tensor) -> Tensor:
    """Return the rank-1 form ``r cᵀ / m`` of a non-negative matrix from its row, column and total means.

    It has the same row and column means as ``values``; what a few samples cannot tell of single entries is gone.
    """
    mean = values.mean().clamp_min(torch.finfo(values.dtype).tiny)
    return values.mean(1, keepdim=True) * (values.mean(0, keepdim=True) / mean)


@register("dai")
class DomainAlignmentImportance(Criterion):
    """Second-order loss change on domain data from a smoothed Fisher.

    Fisher of a few hundred triplets is a noisy mean for a single weight and a good one for a row or a column; most
    of it is therefore replaced by its rank-1 form. General data as a guard and the alignment of the two gradients
    are there to switch on; neither helped where we measured (docs/benchmarks.md), so neither is the default.
    """

    summary: ClassVar[str] = "F w^2, F shrunk to its rank-1 form"
    unit_summary: ClassVar[str | None] = "loss change when a unit goes and the others make up for it, Kronecker Fisher"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, changed by measurement: docs/benchmarks.md"
    layer_summary: ClassVar[str | None] = (
        "what skipping it does: increase of the loss + 5 x distance of the embeddings"
    )
    terms: ClassVar[Mapping[str, object]] = MappingProxyType({"general": 0.0, "smoothing": 0.0, "alpha": 0.0})

    general: float = Field(0.0, ge=0, description="Weight of the general Fisher that is added to the domain's.")
    smoothing: float = Field(0.8, ge=0, le=1, description="0: the measured Fisher; 1: its rank-1 form alone.")
    alpha: float = Field(
        0.0, ge=0, lt=1, description="Weight of the cosine of a row's (a unit's) domain and general gradients."
    )
    damping: float = Field(0.01, gt=0, description="Units: ridge of the input moments, in mean diagonals.")
    preservation: float = Field(
        5.0, ge=0, description="Layers: weight of the cosine distance between embeddings with and without a layer."
    )

    @property
    def domain_needs(self) -> frozenset[Quantity]:
        """Fisher, and the mean gradient if alignment counts."""
        return frozenset({"fisher", "gradient"} if self.alpha else {"fisher"})

    @property
    def general_needs(self) -> frozenset[Quantity]:
        """Fisher if general data guard, and the mean gradient if alignment counts."""
        fisher: frozenset[Quantity] = frozenset({"fisher"} if self.general else ())
        return fisher | frozenset({"gradient"} if self.alpha else ())

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``F w^2 (1 + alpha s)`` of the smoothed, guarded Fisher, ``(out, in)``."""
        fisher = self._smooth(evidence.signals("domain").fisher)
        if self.general:
            fisher = fisher + self.general * self._smooth(evidence.signals("general").fisher)
        importance = fisher * evidence.weight.square()
        if self.alpha:
            domain, general = evidence.signals("domain").gradient, evidence.signals("general").gradient
            cosine = functional.cosine_similarity(domain, general, dim=1)[:, None]
            importance = importance * (1 + self.alpha * cosine)
        return importance

    @property
    def unit_domain_needs(self) -> frozenset[Quantity]:
        """Second moments of inputs and output gradients, and gate gradients if alignment counts."""
        moments: frozenset[Quantity] = frozenset({"gram", "output_gram"})
        return moments | frozenset({"gate"} if self.alpha else ())

    @property
    def unit_general_needs(self) -> frozenset[Quantity]:
        """Second moments if general data guard, and gate gradients if alignment counts."""
        moments: frozenset[Quantity] = frozenset({"gram", "output_gram"} if self.general else ())
        return moments | frozenset({"gate"} if self.alpha else ())

    def unit_importance(self, evidence: UnitEvidence) -> Tensor:
        """Return the second-order loss change of removing a unit when the others make up for it as they can.

        With the Fisher of the reading matrix in Kronecker form, ``E[a aᵀ]`` of its inputs times ``E[d dᵀ]`` of its
        output gradients, and the columns ``W_u`` of the unit, it is the trace of
        ``W_uᵀ E[d dᵀ] W_u ([E[a aᵀ]⁻¹]_uu)⁻¹``: the saliency of the optimal brain surgeon (Hassibi and Stork 1993) for
        a whole unit (compare ZipLM, Kurtic et al. 2023, arXiv 2302.04089, which has no output gradients).
        """
        importance = self._unit_loss(evidence, evidence.signals("domain"))
        if self.general:
            importance = importance + self.general * self._unit_loss(evidence, evidence.signals("general"))
        if self.alpha:
            domain, general = evidence.signals("domain"), evidence.signals("general")
            spread = (domain.gate_fisher * general.gate_fisher).sqrt()
            cosine = domain.gate * general.gate / spread.clamp_min(torch.finfo(spread.dtype).tiny)
            importance = importance * (1 + self.alpha * cosine)
        return importance

    @property
    def layer_needs(self) -> frozenset[Literal["domain", "general"]]:
        """Domain data, and general data if they guard."""
        return frozenset({"domain", "general"} if self.general else {"domain"})

    def layer_importance(self, evidence: LayerEvidence) -> float:
        """Return what skipping the layer does: increase of the loss and, weighted, distance of the embeddings.

        The loss of some dozens of triplets alone is noisy, and can even fall without a layer that other texts need.
        """
        guard = self.general * self._layer_effect(evidence, "general") if self.general else 0.0
        return self._layer_effect(evidence, "domain") + guard

    def _layer_effect(self, evidence: LayerEvidence, data: Literal["domain", "general"]) -> float:
        effect = evidence.effect(data)
        return effect.loss + self.preservation * effect.distance

    def _unit_loss(self, evidence: UnitEvidence, signals: MatrixSignals) -> Tensor:
        columns = evidence.weight.shape[2]
        inverse = damped_inverse(signals.gram, damping=self.damping, name=evidence.name)
        paired = inverse.view(evidence.units, columns, evidence.units, columns)
        blocks = paired.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        weighted = torch.einsum("ouc,op,pud->ucd", evidence.weight, signals.output_gram, evidence.weight)
        importance: Tensor = torch.linalg.solve(blocks, weighted).diagonal(dim1=1, dim2=2).sum(1)
        return importance

    def _smooth(self, fisher: Tensor) -> Tensor:
        return torch.lerp(fisher, rank_one(fisher), self.smoothing)
