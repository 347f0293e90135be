"""Our Domain Alignment Importance."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from gaprune.criteria.base import Granularity, LayerCriterion, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.needs import DataKind, Needs
from gaprune.criteria.obs import obs_order
from gaprune.criteria.registry import register
from gaprune.criteria.swaps import greedy_order, refine_by_swaps
from gaprune.statistics.degradation import PRESERVATION
from gaprune.statistics.sums import Statistic


@register("dai")
class DomainAlignmentImportance(WeightCriterion, UnitCriterion, LayerCriterion):
    """How far embeddings of domain texts move from the parent's, to second order, without all that is pruned.

    The curvature of that distance (Gauss-Newton, which is the Fisher of embeddings with unit normal noise) is taken in
    Kronecker form: second moments of a linear layer's inputs ``A`` and of its output gradients ``D``. Weights are
    chosen together, so that contributions that cancel are pruned together (:mod:`gaprune.criteria.swaps`). If general
    data are named, their moments are mixed in. The alignment of domain and general gradients can be switched on.
    """

    summary: ClassVar[str] = "(D A)-weighted w^2, rows tempered; then swap refinement of every row"
    unit_summary: ClassVar[str] = "greedy order by embedding change, interactions included; after reconstruction if on"
    layer_summary: ClassVar[str] = f"effect of skipping it: loss increase + {PRESERVATION:g} x embedding distance"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, changed by measurement: docs/science.md"
    terms: ClassVar[Mapping[Granularity, Mapping[str, object]]] = MappingProxyType(
        {
            "weights": {"tempering": 0.0, "swaps": 0, "centred": False, "general_share": 0.0, "alpha": 0.0},
            "units": {"centred": False, "reconstruction_aware": False, "general_share": 0.0, "alpha": 0.0},
            "layers": {"preservation": 0.0, "general_share": 0.0},
        }
    )

    general_share: float = Field(
        3 / 13, ge=0, lt=1, description="Share of general data in the mixture. Default: 0 if none are named."
    )
    tempering: float = Field(
        0.5, ge=0, le=1, description="Power of a row's curvature: 0 weighs all rows alike, 1 as the curvature says."
    )
    swaps: int = Field(
        128,
        ge=0,
        description="Maximum number of swaps of a pruned and a kept weight per row; stops when no swap lowers the "
        "row's error.",
    )
    centred: bool = Field(
        True,
        description="Use the covariance instead of the second moments for units and for layers that write to the "
        "residual stream: a shift common to all tokens hardly changes a ranking.",
    )
    reconstruction_aware: bool = Field(
        True,
        description="Units: score by the error left after least-squares reconstruction of the consuming layer (OBS). "
        "Default: on if the run reconstructs.",
    )
    alpha: float = Field(
        0.0, ge=0, lt=1, description="Weight of the cosine of a row's (a unit's) domain and general gradients."
    )
    preservation: float = Field(
        PRESERVATION, ge=0, description="Layers: weight of the cosine distance of embeddings beside the loss."
    )

    def for_run(self, kinds: Collection[DataKind], *, reconstructs: bool) -> Self:
        """Return it with ``general_share`` and ``reconstruction_aware`` off if the run has no use for them."""
        off = {"general_share": 0.0} if "general" not in kinds else {}
        off |= {"reconstruction_aware": False} if not reconstructs else {}
        return self.model_copy(update={key: value for key, value in off.items() if key not in self.model_fields_set})

    @property
    def weight_needs(self) -> Needs:
        """Moments of inputs and output gradients, only squares without swaps."""
        return self._needs("gram" if self.swaps else "input_square", "output_square", alignment="gradient")

    @property
    def unit_needs(self) -> Needs:
        """Moments of inputs and output gradients."""
        return self._needs("gram", "output_gram", alignment="gate")

    def _needs(self, *moments: Statistic, alignment: Statistic) -> Needs:
        """Return the moments on the data that are mixed, and the gradients on both kinds of data if they count."""
        mixed: frozenset[Statistic] = frozenset({*moments, "input"} if self.centred else moments)
        aligned: frozenset[Statistic] = frozenset({alignment} if self.alpha else ())
        return Needs(domain=mixed | aligned, general=(mixed if self.general_share else frozenset()) | aligned)

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``(D_ii m)^t (A_jj / m) w_ij^2``, ``m`` the mean of ``A_jj``, ``t`` the tempering, ``(out, in)``.

        ``A`` is what :meth:`second_moments` returns.
        """
        columns = self.second_moments(inputs).diagonal() if self.swaps else self._input_square(inputs)
        columns = columns.clamp_min(0)  # rounding, if an input hardly varies
        rows = self._mixed(inputs, "output_square")
        mean = columns.mean().clamp_min(torch.finfo(columns.dtype).tiny)
        importance = (rows * mean).pow(self.tempering)[:, None] * (columns / mean) * inputs.weight.square()
        if self.alpha:
            domain, general = inputs.statistics("domain").gradient, inputs.statistics("general").gradient
            importance *= 1 + self.alpha * functional.cosine_similarity(domain, general, dim=1)[:, None]
        return importance

    @property
    def uses_second_moments(self) -> bool:
        """Whether weights are swapped."""
        return self.swaps > 0

    def second_moments(self, inputs: WeightInputs) -> Tensor:
        """Return ``A``, ``(in, in)``: the second moments of the inputs.

        If centred, it is their covariance for a layer that writes to the residual stream. A shift that all tokens
        share stays one when it is added there; before a nonlinearity, or in queries, it does more.
        """
        return self._covariance(inputs) if self._centres(inputs) else self._mixed(inputs, "gram")

    def refine(
        self,
        weight: Tensor,
        second_moments: Tensor,
        keep: Tensor,
        *,
        previously_kept: Tensor | None,
        pattern: tuple[int, int] | None,
    ) -> Tensor:
        """Return the choice after swaps, with as many weights in every row (and group of an N:M pattern)."""
        group = None if pattern is None else pattern[1]
        return refine_by_swaps(
            weight, second_moments, keep, previously_kept=previously_kept, group=group, limit=self.swaps
        )

    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the place of every unit in the order of removal.

        Without the units ``R`` embeddings move by ``sum over k, l in R of tr(W_kᵀ D W_l C_lk)``, ``W_k`` the columns
        that read unit ``k``, ``C`` the covariance of the inputs (if not centred, their second moments). Each time the
        unit is removed that adds least to it, given those removed before. If the result is reconstructed, the order
        is that of the error left by reconstruction: see :func:`gaprune.criteria.obs.obs_order`.
        """
        if not self.reconstruction_aware:
            return self.shared_unit_importance([inputs])
        moments, curvature = self._unit_moments(inputs)
        columns, weight = inputs.weight.shape[2], self._unit_weight(inputs).flatten(1)
        return obs_order(weight, moments, curvature, columns=columns, name=inputs.name)

    def shared_unit_importance(self, inputs: Sequence[UnitInputs]) -> Tensor:
        """Return the place in the order of removal by the sum over all linear layers that read the units.

        The order does not foresee reconstruction: what is lost for the residual stream as a whole, its readers cannot
        make up for.
        """
        losses = []
        for each in inputs:
            moments, curvature = self._unit_moments(each)
            weight = self._unit_weight(each).flatten(1)
            losses.append((weight.T @ curvature @ weight) * moments)
        units, columns = inputs[0].weight.shape[1:]
        return greedy_order(torch.stack(losses).sum(0).view(units, columns, units, columns).sum((1, 3)))

    def _unit_weight(self, inputs: UnitInputs) -> Tensor:
        """Return the weight, scaled by the alignment of every unit if that counts, ``(out, units, columns)``."""
        if not self.alpha:
            return inputs.weight
        domain, general = inputs.statistics("domain"), inputs.statistics("general")
        spread = (domain.gate_fisher * general.gate_fisher).sqrt()
        cosine = domain.gate * general.gate / spread.clamp_min(torch.finfo(spread.dtype).tiny)
        return inputs.weight * (1 + self.alpha * cosine).sqrt()[:, None]

    def _unit_moments(self, inputs: UnitInputs) -> tuple[Tensor, Tensor]:
        """Return the moments of the inputs ``(in, in)`` and the curvature of the outputs ``(out, out)``."""
        moments = self._covariance(inputs) if self.centred else self._mixed(inputs, "gram")
        return moments, self._mixed(inputs, "output_gram")

    @property
    def layer_needs(self) -> frozenset[DataKind]:
        """Domain data, and general data if they are mixed in."""
        return frozenset({"domain", "general"} if self.general_share else {"domain"})

    @property
    def preservation_weight(self) -> float:
        """The constant ``preservation``."""
        return self.preservation

    def layer_importance(self, inputs: LayerInputs) -> float:
        """Return the effect of skipping the layer: increase of the loss and, weighted, distance of the embeddings.

        The loss of some dozens of triplets alone is noisy, and can even fall without a layer that other texts need.
        """
        importance = self._layer_effect(inputs, "domain")
        if self.general_share:
            importance += self.general_share / (1 - self.general_share) * self._layer_effect(inputs, "general")
        return importance

    def _layer_effect(self, inputs: LayerInputs, kind: DataKind) -> float:
        effect = inputs.effect(kind)
        return effect.loss + self.preservation * effect.distance

    def _centres(self, inputs: WeightInputs) -> bool:
        return self.centred and inputs.writes_residual

    def _covariance(self, inputs: WeightInputs | UnitInputs) -> Tensor:
        """Return the covariance of the inputs on both kinds of data together.

        It is not the difference of second moments and means, which large means would lose in rounding.
        """
        covariance = self._mixed(inputs, "covariance")
        if not self.general_share:
            return covariance
        between = self._between(inputs)
        return covariance + torch.outer(between, between)

    def _input_square(self, inputs: WeightInputs) -> Tensor:
        if not self._centres(inputs):
            return self._mixed(inputs, "input_square")
        variance = self._mixed(inputs, "variance")
        return variance + self._between(inputs).square() if self.general_share else variance

    def _between(self, inputs: WeightInputs | UnitInputs) -> Tensor:
        """Return the difference of the means on both kinds of data, scaled to the deviation that comes from it."""
        difference = inputs.statistics("domain").input - inputs.statistics("general").input
        return difference * math.sqrt(self.general_share * (1 - self.general_share))

    def _mixed(
        self, inputs: WeightInputs | UnitInputs, statistic: Statistic | Literal["covariance", "variance"]
    ) -> Tensor:
        """Return moments on domain data, mixed with those on general data by their share."""
        domain: Tensor = getattr(inputs.statistics("domain"), statistic)
        if not self.general_share:
            return domain
        general: Tensor = getattr(inputs.statistics("general"), statistic)
        return torch.lerp(domain, general, self.general_share)
