"""What a criterion may look at: one linear layer, the units that a linear layer reads, or one block."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gaprune.criteria.needs import DataKind
from gaprune.errors import MeasurementError
from gaprune.statistics.degradation import LayerEffect
from gaprune.statistics.sums import LinearStatistics


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A linear layer with the statistics that the criterion asked for.

    Args:
        name: Name of the linear layer.
        domain: Its statistics on domain data, if any were measured.
        general: Its statistics on general data, if any were measured.
        seed: Seed for criteria that draw random numbers.
    """

    name: str
    domain: LinearStatistics | None = None
    general: LinearStatistics | None = None
    seed: int = 0

    def statistics(self, kind: DataKind) -> LinearStatistics:
        """Return the statistics on one kind of data.

        Raises:
            MeasurementError: If they were not measured.
        """
        found = self.domain if kind == "domain" else self.general
        if found is None:
            raise MeasurementError(f"{self.name}: no statistics of {kind} data.", f"Give {kind} triplets.")
        return found


@dataclass(frozen=True, kw_only=True)
class WeightInputs(_Measured):
    """What a criterion may look at to score the weights of one linear layer.

    Args:
        weight: Its weight ``(out, in)`` in fp32.
        writes_residual: Whether its output is added to the residual stream.
    """

    weight: Tensor
    writes_residual: bool = False


@dataclass(frozen=True, kw_only=True)
class UnitInputs(_Measured):
    """What a criterion may look at to score the units (neurons, head groups) that one linear layer reads.

    Args:
        weight: The weight of that layer, ``(out, units, columns of a unit)`` in fp32.
        producer_square: Sum of squares of the weights that produce each unit, ``(units,)``.
    """

    weight: Tensor
    producer_square: Tensor

    @property
    def units(self) -> int:
        """Number of units."""
        return self.weight.shape[1]


@dataclass(frozen=True)
class LayerInputs:
    """What a criterion may look at to score one layer (block).

    Args:
        layer: Index of the block.
        weight_square: Sum of squares of its weights.
        domain: Effect of skipping it on domain data, if it was measured.
        general: Effect of skipping it on general data, if it was measured.
        seed: Seed for criteria that draw random numbers.
    """

    layer: int
    weight_square: float
    domain: LayerEffect | None = None
    general: LayerEffect | None = None
    seed: int = 0

    def effect(self, kind: DataKind) -> LayerEffect:
        """Return the effect of skipping the layer on one kind of data.

        Raises:
            MeasurementError: If it was not measured.
        """
        found = self.domain if kind == "domain" else self.general
        if found is None:
            raise MeasurementError(f"layer {self.layer}: no effect on {kind} data.", f"Give {kind} triplets.")
        return found
