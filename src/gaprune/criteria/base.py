"""What a criterion is: a pure function of one matrix's weights and signals, with its constants as fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor

from gaprune.config.options import Options
from gaprune.config.recipe import Allocation
from gaprune.errors import ConfigError, MeasurementError
from gaprune.statistics.degradation import LayerEffect
from gaprune.statistics.sums import LinearStatistics, Statistic

__all__ = [
    "Calibrated",
    "Calibration",
    "Criterion",
    "Granularity",
    "LayerInputs",
    "Solution",
    "UnitInputs",
    "UpdatingCriterion",
    "WeightInputs",
]

Calibration = Literal["domain", "general", "mix"]
Granularity = Literal["weights", "units", "layers"]


@dataclass(frozen=True)
class WeightInputs:
    """All that a criterion may look at for one matrix.

    Args:
        name: Name of the matrix.
        weight: Its weight ``(out, in)`` in fp32.
        domain: Signals on domain data, where the criterion asked for any.
        general: Signals on general data, likewise.
        seed: For criteria that draw.
        writes: Whether what the matrix gives joins the residual stream.
    """

    name: str
    weight: Tensor
    domain: LinearStatistics | None = None
    general: LinearStatistics | None = None
    seed: int = 0
    writes_residual: bool = False

    def statistics(self, data: Literal["domain", "general"]) -> LinearStatistics:
        """Return the signals on one kind of data.

        Raises:
            SignalError: If they were not measured.
        """
        return _measured(self, data)


def _measured(evidence: WeightInputs | UnitInputs, data: Literal["domain", "general"]) -> LinearStatistics:
    found = evidence.domain if data == "domain" else evidence.general
    if found is None:
        raise MeasurementError(
            f"{evidence.name}: no signals of {data} data.", f"Measure them first: give {data} triplets."
        )
    return found


@dataclass(frozen=True)
class UnitInputs:
    """All that a criterion may look at for the units that one matrix reads.

    Args:
        name: Name of the matrix that reads them.
        weight: Its weight ``(out, units, columns of a unit)`` in fp32.
        producer_square: Sum of squares of the weights that feed each unit, ``(units,)``.
        domain: Signals of the matrix on domain data, where the criterion asked for any.
        general: Signals on general data, likewise.
        seed: For criteria that draw.
    """

    name: str
    weight: Tensor
    producer_square: Tensor
    domain: LinearStatistics | None = None
    general: LinearStatistics | None = None
    seed: int = 0

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.weight.shape[1]

    def statistics(self, data: Literal["domain", "general"]) -> LinearStatistics:
        """Return the signals on one kind of data.

        Raises:
            SignalError: If they were not measured.
        """
        return _measured(self, data)


@dataclass(frozen=True)
class LayerInputs:
    """All that a criterion may look at for one layer.

    Args:
        layer: Index of the block.
        weight_square: Sum of squares of its weights.
        domain: What skipping it does on domain data, where the criterion asked for it.
        general: On general data, likewise.
        seed: For criteria that draw.
    """

    layer: int
    weight_square: float
    domain: LayerEffect | None = None
    general: LayerEffect | None = None
    seed: int = 0

    def effect(self, data: Literal["domain", "general"]) -> LayerEffect:
        """Return what its absence does on one kind of data.

        Raises:
            SignalError: If it was not measured.
        """
        found = self.domain if data == "domain" else self.general
        if found is None:
            raise MeasurementError(f"layer {self.layer}: no {data} data were looked at.", f"Give {data} triplets.")
        return found


class Criterion(Options, ABC):
    """Base of all criteria: higher importance is kept.

    Class attributes say what it is; its pydantic fields are its constants. A criterion that can tell whole units apart
    also has :meth:`unit_importance` and says what that needs.
    """

    summary: ClassVar[str]
    """One line: the formula in words."""
    source: ClassVar[str]
    """Where the formula comes from."""
    default_allocation: ClassVar[Allocation] = "global"
    """Where its authors compare the budget."""
    terms: ClassVar[Mapping[Granularity, Mapping[str, object]]] = MappingProxyType({})
    """The constants that are terms of the formula for a grain, each with the value that switches its term off."""

    unit_summary: ClassVar[str | None] = None
    """One line: the formula for whole units; ``None`` where it tells none apart."""
    layer_summary: ClassVar[str | None] = None
    """One line: the formula for whole layers; ``None`` where it tells none apart."""

    def for_run(self, kinds: Collection[str], *, refits: bool) -> Self:  # noqa: ARG002 (for those that can tell)
        """Return the criterion as it is in a run, which settles defaults that depend on it.

        Args:
            kinds: Of data that are named, ``domain`` and ``general``.
            refits: Whether whole units go and what is left is refit.
        """
        return self

    @property
    def domain_needs(self) -> frozenset[Statistic]:
        """What has to be measured on domain data."""
        return frozenset()

    @property
    def general_needs(self) -> frozenset[Statistic]:
        """What has to be measured on general data."""
        return frozenset()

    @property
    def unit_domain_needs(self) -> frozenset[Statistic]:
        """What has to be measured on domain data, of the matrices that read units, to tell the units apart."""
        return frozenset()

    @property
    def unit_general_needs(self) -> frozenset[Statistic]:
        """What has to be measured on general data, likewise."""
        return frozenset()

    @property
    def layer_needs(self) -> frozenset[Literal["domain", "general"]]:
        """The data on which layers have to be skipped to tell them apart."""
        return frozenset()

    @property
    def depends_on_seed(self) -> bool:
        """Whether another calibration sample can change the importance."""
        return bool(self.domain_needs | self.general_needs)

    @abstractmethod
    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return the importance of every weight, ``(out, in)`` in fp32."""

    @property
    def keeps_gram(self) -> bool:
        """Whether the inputs' second moments are kept with the scores, because the choice is made on them too."""
        return False

    def gram(self, evidence: WeightInputs) -> Tensor:
        """Return the inputs' second moments ``(in, in)`` that are kept with the scores.

        Raises:
            SignalError: If the criterion looks at none.
        """
        raise MeasurementError(
            f"{evidence.name}: {type(self).__name__} keeps no second moments.", "Ask keeps_gram first."
        )

    def refine(
        self,
        weight: Tensor,  # noqa: ARG002 (the interface)
        gram: Tensor,  # noqa: ARG002
        keep: Tensor,
        *,
        there: Tensor | None,  # noqa: ARG002
        pattern: tuple[int, int] | None,  # noqa: ARG002
    ) -> Tensor:
        """Return a better choice of as many weights of a matrix, where the criterion sees a choice as a whole.

        Args:
            weight: ``(out, in)`` in fp32.
            gram: What :meth:`gram` returned, ``(in, in)``.
            keep: True for weights that stay by their importance, ``(out, in)``.
            there: True for weights that are there yet, ``(out, in)``, where some went before; ``None`` for all.
            pattern: ``(N, M)`` where N of every M inputs stay.
        """
        return keep

    def unit_importance(self, evidence: UnitInputs) -> Tensor:
        """Return the importance of every unit, ``(units,)`` in fp32.

        Raises:
            ConfigError: If the criterion tells only single weights apart.
        """
        raise ConfigError(
            f"criterion: {type(self).__name__} scores single weights, not the units of {evidence.name}.",
            "Choose one that `gaprune criteria` lists for units, such as dai.",
        )

    def layer_importance(self, evidence: LayerInputs) -> float:
        """Return the importance of a whole layer.

        Raises:
            ConfigError: If the criterion tells no layers apart.
        """
        raise ConfigError(
            f"criterion: {type(self).__name__} does not score layers such as layer {evidence.layer}.",
            "Choose one that `gaprune criteria` lists for layers, such as dai.",
        )


@dataclass(frozen=True)
class Solution:
    """What a reconstruction decides for one matrix.

    Args:
        keep: True where a weight stays, ``(out, in)``.
        weight: The updated weights, zero where ``keep`` is false, ``(out, in)`` in fp32.
    """

    keep: Tensor
    weight: Tensor


class UpdatingCriterion(Criterion):
    """A criterion that chooses and updates weights in one sweep, so that its budget is one a matrix."""

    default_allocation: ClassVar[Allocation] = "matrix"

    def refuse_allocation(self, name: str, allocation: Allocation | None) -> None:
        """Refuse an allocation other than the default.

        Raises:
            ConfigError: If ``allocation`` is another.
        """
        if allocation not in (None, self.default_allocation):
            raise ConfigError(
                f"allocation: {name} updates weights in one sweep over a matrix, so its budget is compared by "
                f"{self.default_allocation}, not {allocation}.",
                "Leave allocation (--allocation) out, or choose another criterion.",
            )

    @property
    def keeps_gram(self) -> bool:
        """Always: the sweep works on them."""
        return True

    @abstractmethod
    def solve(
        self,
        weight: Tensor,
        gram: Tensor,
        *,
        zeros: int,
        pattern: tuple[int, int] | None,
        keep: Tensor | None = None,
    ) -> Solution:
        """Remove exactly ``zeros`` weights, or all but N of every M inputs, and update the others.

        Args:
            weight: ``(out, in)`` in fp32.
            gram: What :meth:`gram` returned, ``(in, in)``.
            zeros: How many go.
            pattern: ``(N, M)``, which says how many go instead.
            keep: True for weights that are there yet, ``(out, in)``; those that went before are among the first to go.
        """


class Calibrated(Criterion):
    """A criterion that looks at one kind of data, or at both pooled with equal weight."""

    quantities: ClassVar[frozenset[Statistic]]
    unit_quantities: ClassVar[frozenset[Statistic]] = frozenset()

    calibration: Calibration = Field(
        "domain", description="Data it looks at: domain, general, or mix (both, equally)."
    )

    @property
    def domain_needs(self) -> frozenset[Statistic]:
        """What has to be measured on domain data."""
        return frozenset() if self.calibration == "general" else self.quantities

    @property
    def general_needs(self) -> frozenset[Statistic]:
        """What has to be measured on general data."""
        return frozenset() if self.calibration == "domain" else self.quantities

    @property
    def unit_domain_needs(self) -> frozenset[Statistic]:
        """What has to be measured on domain data, likewise for units."""
        return frozenset() if self.calibration == "general" else self.unit_quantities

    @property
    def unit_general_needs(self) -> frozenset[Statistic]:
        """What has to be measured on general data, likewise for units."""
        return frozenset() if self.calibration == "domain" else self.unit_quantities

    def mean(self, evidence: WeightInputs | UnitInputs, quantity: str) -> Tensor:
        """Return a signal on the data this criterion looks at."""
        if self.calibration == "mix":
            domain, general = (getattr(evidence.statistics(data), quantity) for data in ("domain", "general"))
            return (domain + general) / 2  # type: ignore[no-any-return]
        return getattr(evidence.statistics(self.calibration), quantity)  # type: ignore[no-any-return]
