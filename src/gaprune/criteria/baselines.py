"""The criteria everyone compares with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.criteria.base import Calibrated, Criterion, LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic

__all__ = ["Activation", "Fisher", "Magnitude", "OptimalBrainDamage", "Random", "Taylor", "Wanda"]


@register("random")
class Random(Criterion):
    """Uniform noise, the same for the same seed and matrix name."""

    summary: ClassVar[str] = "uniform noise"
    unit_summary: ClassVar[str | None] = "uniform noise"
    layer_summary: ClassVar[str | None] = "uniform noise"
    source: ClassVar[str] = "the control"

    @property
    def depends_on_seed(self) -> bool:
        """Always: it draws."""
        return True

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        return _uniform(evidence, evidence.weight.shape)

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        return _uniform(evidence, (evidence.units,))

    def layer_importance(self, evidence: LayerInputs) -> float:
        """Return a uniform number in [0, 1)."""
        generator = torch.Generator().manual_seed(zlib.crc32(b"layers") + evidence.seed)
        return float(torch.rand(evidence.layer + 1, generator=generator)[-1])


def _uniform(evidence: WeightInputs | UnitInputs, shape: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(evidence.name.encode()) + evidence.seed)
    return torch.rand(*shape, generator=generator).to(evidence.weight.device)


@register("magnitude")
class Magnitude(Criterion):
    """The absolute weight."""

    summary: ClassVar[str] = "|w|"
    unit_summary: ClassVar[str | None] = "norm of the weights that feed it times norm of those that read it"
    layer_summary: ClassVar[str | None] = "sum of squares of its weights"
    source: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626"

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``|w|``."""
        return evidence.weight.abs()

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the norm of the weights that feed the unit times the norm of those that read it."""
        return (evidence.producer_square * evidence.weight.square().sum((0, 2))).sqrt()

    def layer_importance(self, evidence: LayerInputs) -> float:
        """Return the sum of squares of the layer's weights."""
        return evidence.weight_square


@register("fisher")
class Fisher(Calibrated):
    """The Fisher diagonal alone; the paper's two baselines are ``fisher-general`` and ``fisher-domain``."""

    summary: ClassVar[str] = "F: mean squared gradient"
    unit_summary: ClassVar[str | None] = "mean squared gate gradient"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, table 1"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"fisher"})
    unit_quantities: ClassVar[frozenset[Statistic]] = frozenset({"gate"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``F``."""
        return self.mean(evidence, "fisher")

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the mean squared gate gradient."""
        return self.mean(evidence, "gate_fisher")


@register("taylor")
class Taylor(Calibrated):
    """First-order estimate of the loss change when a weight goes."""

    summary: ClassVar[str] = "|g w|: first-order loss change, g the mean gradient"
    source: ClassVar[str] = "Molchanov et al. 2017, arXiv 1611.06440"
    unit_summary: ClassVar[str | None] = "absolute mean gate gradient"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"gradient"})
    unit_quantities: ClassVar[frozenset[Statistic]] = frozenset({"gate"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``|g w|``."""
        return (self.mean(evidence, "gradient") * evidence.weight).abs()

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the absolute mean gate gradient."""
        return self.mean(evidence, "gate").abs()


@register("obd")
class OptimalBrainDamage(Calibrated):
    """Second-order estimate of the loss change, the Hessian's diagonal replaced by Fisher's."""

    summary: ClassVar[str] = "F w^2: second-order loss change"
    source: ClassVar[str] = "LeCun et al. 1989 (Optimal Brain Damage)"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"fisher"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``F w^2`` (twice the loss change)."""
        return self.mean(evidence, "fisher") * evidence.weight.square()


@register("wanda")
class Wanda(Calibrated):
    """Weights times the norm of their inputs, compared within a row."""

    summary: ClassVar[str] = "|w| times the norm of its input"
    source: ClassVar[str] = "Sun et al. 2023 (Wanda), arXiv 2306.11695"
    default_allocation: ClassVar[Allocation] = "row"
    unit_summary: ClassVar[str | None] = "norm of its activation times norm of the weights that read it"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})
    unit_quantities: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``|w| sqrt(E[a^2])``, the root mean square in place of the norm (same order in every row)."""
        return evidence.weight.abs() * self.mean(evidence, "input_square").sqrt()

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the root of ``sum_k E[a_k^2] |w_k|^2`` over the columns ``w_k`` of the unit."""
        squares = self.mean(evidence, "input_square").view(evidence.units, -1)
        return (squares * evidence.weight.square().sum(0)).sum(1).sqrt()


@register("activation")
class Activation(Calibrated):
    """How strongly a unit fires, whatever reads it; for whole units."""

    summary: ClassVar[str] = "norm of the input, the same for all weights of a column"
    source: ClassVar[str] = "Hu et al. 2016 (Network Trimming), arXiv 1607.03250"
    unit_summary: ClassVar[str | None] = "norm of its activation"
    layer_summary: ClassVar[str | None] = "how far it turns the states of tokens (ShortGPT, arXiv 2403.03853)"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})
    unit_quantities: ClassVar[frozenset[Statistic]] = frozenset({"input_square"})

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``sqrt(E[a^2])`` for every row."""
        return self.mean(evidence, "input_square").sqrt().expand_as(evidence.weight).clone()

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the root mean square of the activation, over the columns of the unit together."""
        return self.mean(evidence, "input_square").view(evidence.units, -1).sum(1).sqrt()

    @property
    def layer_needs(self) -> frozenset[Literal["domain", "general"]]:
        """The data it looks at."""
        return frozenset({"domain", "general"} if self.calibration == "mix" else {self.calibration})

    def layer_importance(self, evidence: LayerInputs) -> float:
        """Return one minus the mean cosine between a token's state before and after the layer."""
        return fmean(evidence.effect(data).block_influence for data in self.layer_needs)
