"""The criteria everyone compares with."""

from __future__ import annotations

import zlib
from typing import ClassVar

import torch
from torch import Tensor

from gaprune.config import Allocation
from gaprune.criteria.base import Calibrated, Criterion, Evidence
from gaprune.criteria.registry import register
from gaprune.signals import Quantity

__all__ = ["Fisher", "Magnitude", "OptimalBrainDamage", "Random", "Taylor", "Wanda"]


@register("random")
class Random(Criterion):
    """Uniform noise, the same for the same seed and matrix name."""

    summary: ClassVar[str] = "uniform noise"
    source: ClassVar[str] = "the control"

    @property
    def depends_on_seed(self) -> bool:
        """Always: it draws."""
        return True

    def importance(self, evidence: Evidence) -> Tensor:
        """Return uniform numbers in [0, 1)."""
        generator = torch.Generator().manual_seed(zlib.crc32(evidence.name.encode()) + evidence.seed)
        return torch.rand(evidence.weight.shape, generator=generator).to(evidence.weight.device)


@register("magnitude")
class Magnitude(Criterion):
    """The absolute weight."""

    summary: ClassVar[str] = "|w|"
    source: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626"

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``|w|``."""
        return evidence.weight.abs()


@register("fisher")
class Fisher(Calibrated):
    """The Fisher diagonal alone; the paper's two baselines are ``fisher-general`` and ``fisher-domain``."""

    summary: ClassVar[str] = "F: mean squared gradient"
    source: ClassVar[str] = "GAPrune, arXiv 2509.10844, table 1"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({"fisher"})

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``F``."""
        return self.mean(evidence, "fisher")


@register("taylor")
class Taylor(Calibrated):
    """First-order estimate of the loss change when a weight goes."""

    summary: ClassVar[str] = "|g w|: first-order loss change, g the mean gradient"
    source: ClassVar[str] = "Molchanov et al. 2017, arXiv 1611.06440"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({"gradient"})

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``|g w|``."""
        return (self.mean(evidence, "gradient") * evidence.weight).abs()


@register("obd")
class OptimalBrainDamage(Calibrated):
    """Second-order estimate of the loss change, the Hessian's diagonal replaced by Fisher's."""

    summary: ClassVar[str] = "F w^2: second-order loss change"
    source: ClassVar[str] = "LeCun et al. 1989 (Optimal Brain Damage)"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({"fisher"})

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``F w^2`` (twice the loss change)."""
        return self.mean(evidence, "fisher") * evidence.weight.square()


@register("wanda")
class Wanda(Calibrated):
    """Weights times the norm of their inputs, compared within a row."""

    summary: ClassVar[str] = "|w| times the norm of its input"
    source: ClassVar[str] = "Sun et al. 2023 (Wanda), arXiv 2306.11695"
    default_allocation: ClassVar[Allocation] = "row"
    quantities: ClassVar[frozenset[Quantity]] = frozenset({"input_square"})

    def importance(self, evidence: Evidence) -> Tensor:
        """Return ``|w| sqrt(E[a^2])``, the root mean square in place of the norm (same order in every row)."""
        return evidence.weight.abs() * self.mean(evidence, "input_square").sqrt()
