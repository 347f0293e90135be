"""The interfaces of a criterion: pure functions from weights and calibration statistics to importance.

A criterion has constants (pydantic fields) and inherits an interface for each granularity that it can rank:
:class:`WeightCriterion`, :class:`UnitCriterion`, :class:`LayerCriterion`. Higher importance is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from gaprune.config.options import Options
from gaprune.config.recipe import Allocation
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.needs import DataKind, Needs
from gaprune.errors import ConfigError
from gaprune.statistics.degradation import PRESERVATION
from gaprune.statistics.sums import Statistic

Granularity = Literal["weights", "units", "layers"]


class Criterion(Options, ABC):
    """Base of all criteria."""

    summary: ClassVar[str]
    """One line: the formula in words."""
    source: ClassVar[str]
    """The publication that the formula comes from."""
    terms: ClassVar[Mapping[Granularity, Mapping[str, object]]] = MappingProxyType({})
    """Constants that are terms of the formula for a granularity, each with the value that switches its term off."""

    def for_run(self, kinds: Collection[DataKind], *, reconstructs: bool) -> Self:  # noqa: ARG002 (for overriding)
        """Return the criterion with the defaults that depend on the run."""
        return self

    @property
    def depends_on_seed(self) -> bool:
        """Whether another seed, and so another calibration sample, can change the importance."""
        return bool(needs_of(self, ("weights", "units", "layers")))


class WeightCriterion(Criterion):
    """A criterion that ranks single weights."""

    default_allocation: ClassVar[Allocation] = "global"
    """Where the authors of the criterion compare the budget."""

    @property
    def weight_needs(self) -> Needs:
        """What has to be measured."""
        return Needs()

    @abstractmethod
    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return the importance of every weight, ``(out, in)`` in fp32."""

    @property
    def uses_second_moments(self) -> bool:
        """Whether weights are chosen on the inputs' second moments too, which are then stored with the scores."""
        return False

    def second_moments(self, inputs: WeightInputs) -> Tensor:
        """Return the second moments of the inputs, ``(in, in)``, on which :meth:`refine` or ``solve`` works."""
        raise NotImplementedError(f"{inputs.name}: {type(self).__name__} does not use second moments")

    def refine(
        self,
        weight: Tensor,  # noqa: ARG002 (for overriding)
        second_moments: Tensor,  # noqa: ARG002
        keep: Tensor,
        *,
        previously_kept: Tensor | None,  # noqa: ARG002
        pattern: tuple[int, int] | None,  # noqa: ARG002
    ) -> Tensor:
        """Return a better choice of as many weights of a linear layer, true for kept weights, ``(out, in)``.

        Args:
            weight: ``(out, in)`` in fp32.
            second_moments: What :meth:`second_moments` returned, ``(in, in)``.
            keep: True for weights that are kept by their importance, ``(out, in)``.
            previously_kept: False for weights that an earlier round pruned, ``(out, in)``; ``None`` if there was none.
            pattern: ``(N, M)`` if N of every M inputs are kept.
        """
        return keep


class UnitCriterion(Criterion):
    """A criterion that ranks the units (neurons, head groups) that a linear layer reads."""

    unit_summary: ClassVar[str]
    """One line: the formula for units."""

    @property
    def unit_needs(self) -> Needs:
        """What has to be measured of the linear layers that read units."""
        return Needs()

    @abstractmethod
    def unit_importance(self, inputs: UnitInputs) -> Tensor:
        """Return the importance of every unit, ``(units,)`` in fp32."""

    def shared_unit_importance(self, inputs: Sequence[UnitInputs]) -> Tensor:
        """Return the importance of units that several linear layers read, ``(units,)``: by default the sum."""
        return torch.stack([self.unit_importance(each) for each in inputs]).sum(0)


class LayerCriterion(Criterion):
    """A criterion that ranks whole layers (blocks)."""

    layer_summary: ClassVar[str]
    """One line: the formula for layers."""

    @property
    def layer_needs(self) -> frozenset[DataKind]:
        """The kinds of data on which the effect of skipping a layer has to be measured."""
        return frozenset()

    @property
    def preservation_weight(self) -> float:
        """Weight of the distance of embeddings beside the increase of the loss, if degradation is measured."""
        return PRESERVATION

    @abstractmethod
    def layer_importance(self, inputs: LayerInputs) -> float:
        """Return the importance of a layer."""


@dataclass(frozen=True)
class Solution:
    """The pruned weights of one linear layer.

    Args:
        keep: True for kept weights, ``(out, in)``.
        weight: The updated weights, zero where ``keep`` is false, ``(out, in)`` in fp32.
    """

    keep: Tensor
    weight: Tensor


class UpdatingCriterion(WeightCriterion):
    """A criterion that chooses and updates weights in one sweep over a linear layer."""

    default_allocation: ClassVar[Allocation] = "matrix"

    def check_allocation(self, name: str, allocation: Allocation | None) -> None:
        """Refuse an allocation other than the default.

        Raises:
            ConfigError: If ``allocation`` is another.
        """
        if allocation not in (None, self.default_allocation):
            raise ConfigError(
                f"allocation: {name} updates weights in one sweep over a linear layer, so its budget is compared by "
                f"{self.default_allocation}, not {allocation}.",
                "Leave allocation out, or choose another criterion.",
            )

    @property
    def uses_second_moments(self) -> bool:
        """Always true: the sweep works on them."""
        return True

    @abstractmethod
    def solve(
        self,
        weight: Tensor,
        second_moments: Tensor,
        *,
        zeros: int,
        pattern: tuple[int, int] | None,
        previously_kept: Tensor | None = None,
    ) -> Solution:
        """Prune exactly ``zeros`` weights, or all but N of every M inputs, and update the others.

        Args:
            weight: ``(out, in)`` in fp32.
            second_moments: What :meth:`second_moments` returned, ``(in, in)``.
            zeros: Number of weights to prune.
            pattern: ``(N, M)``; it replaces ``zeros``.
            previously_kept: False for weights that an earlier round pruned, which are pruned first, ``(out, in)``.
        """


class Calibrated(Criterion):
    """Mixin that names the statistics of a criterion once and asks for them on the chosen data."""

    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset()
    unit_statistics: ClassVar[frozenset[Statistic]] = frozenset()

    calibration: Literal["domain", "general", "mix"] = Field(
        "domain", description="Data it looks at: domain, general, or mix (both, with equal weight)."
    )

    @property
    def kinds(self) -> frozenset[DataKind]:
        """The kinds of data that the criterion looks at."""
        return frozenset({"domain", "general"} if self.calibration == "mix" else {self.calibration})

    @property
    def weight_needs(self) -> Needs:
        """``weight_statistics`` on the chosen data."""
        return self._needs(self.weight_statistics)

    @property
    def unit_needs(self) -> Needs:
        """``unit_statistics`` on the chosen data."""
        return self._needs(self.unit_statistics)

    def _needs(self, statistics: frozenset[Statistic]) -> Needs:
        none: frozenset[Statistic] = frozenset()
        domain, general = (statistics if kind in self.kinds else none for kind in ("domain", "general"))
        return Needs(domain, general)

    def mean(self, inputs: WeightInputs | UnitInputs, statistic: str) -> Tensor:
        """Return a statistic on the chosen data."""
        found: list[Tensor] = [getattr(inputs.statistics(kind), statistic) for kind in sorted(self.kinds)]
        return found[0] if len(found) == 1 else (found[0] + found[1]) / 2


def needs_of(criterion: Criterion, granularities: Collection[Granularity]) -> Needs:
    """Return what a criterion needs to rank what is removed at these granularities."""
    needs = Needs()
    if "weights" in granularities and isinstance(criterion, WeightCriterion):
        needs |= criterion.weight_needs
    if "units" in granularities and isinstance(criterion, UnitCriterion):
        needs |= criterion.unit_needs
    if "layers" in granularities and isinstance(criterion, LayerCriterion):
        needs |= Needs(texts=criterion.layer_needs)
    return needs


def for_weights(criterion: Criterion, name: str) -> WeightCriterion:
    """Return the criterion as one that ranks weights; it is an error if it cannot."""
    if isinstance(criterion, WeightCriterion):
        return criterion
    raise _cannot_rank(name, "weights")


def for_units(criterion: Criterion, name: str) -> UnitCriterion:
    """Return the criterion as one that ranks units; it is an error if it cannot."""
    if isinstance(criterion, UnitCriterion):
        return criterion
    raise _cannot_rank(name, "units")


def for_layers(criterion: Criterion, name: str) -> LayerCriterion:
    """Return the criterion as one that ranks layers; it is an error if it cannot."""
    if isinstance(criterion, LayerCriterion):
        return criterion
    raise _cannot_rank(name, "layers")


def _cannot_rank(name: str, things: Granularity) -> ConfigError:
    return ConfigError(
        f"criterion: {name} cannot rank {things}.", "Choose another: `gaprune criteria` lists what each can rank."
    )
