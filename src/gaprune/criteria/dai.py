"""The Domain Alignment Importance: the paper's, and ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gaprune.criteria.base import Criterion, Granularity, LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.obs import obs_order
from gaprune.criteria.registry import register
from gaprune.criteria.swaps import greedy_order, refine_by_swaps
from gaprune.statistics.degradation import PRESERVATION
from gaprune.statistics.sums import Statistic

__all__ = ["DomainAlignmentImportance", "PaperDai"]


@register("dai-paper")
class PaperDai(Criterion):
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
        description="s: a smoothed product of unit gradients for each weight (as released), or a cosine a matrix.",
    )

    @property
    def domain_needs(self) -> frozenset[Statistic]:
        """Fisher and mean gradient."""
        return frozenset({"fisher", "gradient"})

    @property
    def general_needs(self) -> frozenset[Statistic]:
        """Fisher and mean gradient."""
        return frozenset({"fisher", "gradient"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return the paper's DAI, ``(out, in)``; it can be negative."""
        domain, general = evidence.statistics("domain"), evidence.statistics("general")
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


@register("dai")
class DomainAlignmentImportance(Criterion):
    """How far embeddings of domain texts move from the parent's, to second order, when everything that goes is gone.

    The curvature of that distance (Gauss-Newton, which is the Fisher of embeddings with unit normal noise) is taken in
    Kronecker form: second moments of a matrix's inputs ``A`` and of its output gradients ``D``. It is seen as a whole:
    what goes is chosen together, so that contributions that cancel go together (:mod:`gaprune.criteria.swaps`).
    General data, where they are named, are mixed in as a guard. The alignment of domain and general gradients can be
    switched on.
    """

    summary: ClassVar[str] = "(D A)-weighted w^2, rows tempered; then weights are exchanged while a row loses less"
    unit_summary: ClassVar[str | None] = (
        "order of removal that moves embeddings least, units seen together, after a refit where one comes"
    )
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, changed by measurement: docs/science.md"
    layer_summary: ClassVar[str | None] = (
        f"what its absence does: increase of the loss + {PRESERVATION:g} x distance of the embeddings"
    )
    terms: ClassVar[Mapping[Granularity, Mapping[str, object]]] = MappingProxyType(
        {
            "weights": {"tempering": 0.0, "swaps": 0, "centred": False, "general": 0.0, "alpha": 0.0},
            "units": {"centred": False, "refit": False, "general": 0.0, "alpha": 0.0},
            "layers": {"preservation": 0.0, "general": 0.0},
        }
    )

    general: float = Field(
        0.3, ge=0, description="Weight of general data beside the domain's; by default only where such are named."
    )
    tempering: float = Field(
        0.5, ge=0, le=1, description="Power of a row's curvature: 0 weighs all rows alike, 1 as the curvature says."
    )
    swaps: int = Field(
        128,
        ge=0,
        description="Pairs of a weight that goes and one that stays that change places in a row while it loses less "
        "by it, at most.",
    )
    centred: bool = Field(
        True,
        description="What moves the residual stream alike for all tokens is no loss, for it ranks little anew: units, "
        "and weights of the matrices that write to it.",
    )
    refit: bool = Field(
        True,
        description="Units: what refitting the matrix that reads them makes up for is no loss; by default only where "
        "the run repairs.",
    )
    alpha: float = Field(
        0.0, ge=0, lt=1, description="Weight of the cosine of a row's (a unit's) domain and general gradients."
    )
    preservation: float = Field(
        PRESERVATION,
        ge=0,
        description="Layers: weight of the cosine distance of embeddings with and without a layer.",
    )

    def for_run(self, kinds: Collection[str], *, refits: bool) -> Self:
        """Return it without general data where none are named and without a refit where none comes, unless asked."""
        off = {"general": 0.0} if "general" not in kinds else {}
        off |= {"refit": False} if not refits else {}
        return self.model_copy(update={key: value for key, value in off.items() if key not in self.model_fields_set})

    @property
    def domain_needs(self) -> frozenset[Statistic]:
        """Second moments of inputs and output gradients, and the mean gradient if alignment counts."""
        return self._moments | frozenset({"gradient"} if self.alpha else ())

    @property
    def general_needs(self) -> frozenset[Statistic]:
        """Second moments if general data guard, and the mean gradient if alignment counts."""
        return (self._moments if self.general else frozenset()) | frozenset({"gradient"} if self.alpha else ())

    @property
    def _moments(self) -> frozenset[Statistic]:
        """Squares alone where nothing is exchanged."""
        squares: frozenset[Statistic] = frozenset({"gram" if self.swaps else "input_square", "output_square"})
        return squares | self._means

    @property
    def _means(self) -> frozenset[Statistic]:
        return frozenset({"input"} if self.centred else ())

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``(D_ii m)^t (A_jj / m) w_ij^2``, ``m`` the mean of ``A_jj``, ``t`` the tempering, ``(out, in)``.

        ``A`` is what :meth:`gram` returns.
        """
        inputs = self.gram(evidence).diagonal() if self.swaps else self._input_square(evidence)
        inputs = inputs.clamp_min(0)  # rounding, where an input hardly varies
        rows = self._mixed(evidence, "output_square")
        mean = inputs.mean().clamp_min(torch.finfo(inputs.dtype).tiny)
        importance = (rows * mean).pow(self.tempering)[:, None] * (inputs / mean) * evidence.weight.square()
        if self.alpha:
            domain, general = evidence.statistics("domain").gradient, evidence.statistics("general").gradient
            cosine = functional.cosine_similarity(domain, general, dim=1)[:, None]
            importance = importance * (1 + self.alpha * cosine)
        return importance

    @property
    def keeps_gram(self) -> bool:
        """Whether it exchanges weights, which is done on the inputs' moments."""
        return self.swaps > 0

    def gram(self, evidence: WeightInputs) -> Tensor:
        """Return ``A``, ``(in, in)``: the second moments of the inputs.

        If centred, it is their covariance where the matrix writes to the residual stream. A shift that all tokens
        share stays one when it is added there; before a nonlinearity, or in queries, it does more.
        """
        return self._covariance(evidence) if self._centres(evidence) else self._mixed(evidence, "gram")

    def refine(
        self, weight: Tensor, gram: Tensor, keep: Tensor, *, there: Tensor | None, pattern: tuple[int, int] | None
    ) -> Tensor:
        """Return the choice after exchanges, with as many weights in every row (and group of an N:M pattern)."""
        group = None if pattern is None else pattern[1]
        return refine_by_swaps(weight, gram, keep, there=there, group=group, limit=self.swaps)

    @property
    def unit_domain_needs(self) -> frozenset[Statistic]:
        """Moments of inputs and output gradients, and gate gradients if alignment counts."""
        return self._unit_moments | frozenset({"gate"} if self.alpha else ())

    @property
    def unit_general_needs(self) -> frozenset[Statistic]:
        """Moments if general data guard, and gate gradients if alignment counts."""
        return (self._unit_moments if self.general else frozenset()) | frozenset({"gate"} if self.alpha else ())

    @property
    def _unit_moments(self) -> frozenset[Statistic]:
        squares: frozenset[Statistic] = frozenset({"gram", "output_gram"})
        return squares | self._means

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the place of every unit in the order in which they go.

        Without the units ``R`` embeddings move by ``sum over k, l in R of tr(W_kᵀ D W_l C_lk)``, ``W_k`` the columns
        that read unit ``k``, ``C`` the covariance of the inputs (if not centred, their second moments): each time the
        unit goes that adds least to it, given those that went before. Where a refit is foreseen, it is what that
        leaves of it: see :func:`gaprune.criteria.obs.obs_order`.
        """
        weight = evidence.weight
        if self.alpha:
            domain, general = evidence.statistics("domain"), evidence.statistics("general")
            spread = (domain.gate_fisher * general.gate_fisher).sqrt()
            cosine = domain.gate * general.gate / spread.clamp_min(torch.finfo(spread.dtype).tiny)
            weight = weight * (1 + self.alpha * cosine).sqrt()[:, None]
        columns, left = weight.shape[2], weight.flatten(1)
        inputs = self._covariance(evidence) if self.centred else self._mixed(evidence, "gram")
        outputs = self._mixed(evidence, "output_gram")
        if self.refit:
            return obs_order(left, inputs, outputs, columns=columns, name=evidence.name)
        loss = (left.T @ outputs @ left) * inputs
        return greedy_order(loss.view(evidence.units, columns, evidence.units, columns).sum((1, 3)))

    @property
    def layer_needs(self) -> frozenset[Literal["domain", "general"]]:
        """Domain data, and general data if they guard."""
        return frozenset({"domain", "general"} if self.general else {"domain"})

    def layer_importance(self, evidence: LayerInputs) -> float:
        """Return what the layer's absence does: increase of the loss and, weighted, distance of the embeddings.

        The loss of some dozens of triplets alone is noisy, and can even fall without a layer that other texts need.
        """
        guard = self.general * self._layer_effect(evidence, "general") if self.general else 0.0
        return self._layer_effect(evidence, "domain") + guard

    def _layer_effect(self, evidence: LayerInputs, data: Literal["domain", "general"]) -> float:
        effect = evidence.effect(data)
        return effect.loss + self.preservation * effect.distance

    def _centres(self, evidence: WeightInputs) -> bool:
        return self.centred and evidence.writes_residual

    def _covariance(self, evidence: WeightInputs | UnitInputs) -> Tensor:
        mean = self._mixed(evidence, "input")
        return self._mixed(evidence, "gram") - torch.outer(mean, mean)

    def _input_square(self, evidence: WeightInputs) -> Tensor:
        squares = self._mixed(evidence, "input_square")
        return squares - self._mixed(evidence, "input").square() if self._centres(evidence) else squares

    def _mixed(self, evidence: WeightInputs | UnitInputs, quantity: Statistic) -> Tensor:
        """Return second moments on domain data, general ones mixed in by their weight."""
        domain: Tensor = getattr(evidence.statistics("domain"), quantity)
        if not self.general:
            return domain
        general: Tensor = getattr(evidence.statistics("general"), quantity)
        return torch.lerp(domain, general, self.general / (1 + self.general))
