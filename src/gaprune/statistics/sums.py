"""Signals as sums, so that they add over batches, passes and processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from gaprune.errors import MeasurementError

if TYPE_CHECKING:
    import torch

__all__ = ["LinearStatistics", "Statistic", "Statistics"]

Statistic = Literal["fisher", "gradient", "gram", "input", "input_square", "output_gram", "output_square", "gate"]
"""What can be measured of a matrix."""


@dataclass
class LinearStatistics:
    """Sums of one matrix ``(out, in)`` over the calibration data, all in fp32.

    Args:
        name: Name of the matrix.
        samples: Gradients squared in ``fisher_sum``: triplets, or batches for the batch Fisher.
        triplets: Triplets whose gradients were taken; none where only ``gram`` was measured.
        tokens: Real (not padding) tokens seen.
        fisher_sum: Sum of elementwise squared gradients, ``(out, in)``.
        gradient_sum: Sum of the gradients of all triplets, ``(out, in)``.
        gram_sum: Sum over tokens of ``a aᵀ`` for inputs ``a``, ``(in, in)``.
        input_sum: Sum over tokens of ``a``, ``(in,)``.
        input_square_sum: Sum over tokens of ``a²``, the diagonal alone, ``(in,)``.
        output_gram_sum: Sum over tokens of ``d dᵀ``, ``(out, out)``, for output gradients ``d`` of random projections
            of the embeddings.
        output_square_sum: Sum over tokens of ``d²``, the diagonal alone, ``(out,)``.
        gate_sum: Sum over triplets of the gate gradients of the units that this matrix reads, ``(units,)``.
        gate_square_sum: Sum over triplets of their squares, ``(units,)``.
    """

    name: str
    samples: int = 0
    triplets: int = 0
    tokens: int = 0
    fisher_sum: Tensor | None = None
    gradient_sum: Tensor | None = None
    gram_sum: Tensor | None = None
    input_sum: Tensor | None = None
    input_square_sum: Tensor | None = None
    output_gram_sum: Tensor | None = None
    output_square_sum: Tensor | None = None
    gate_sum: Tensor | None = None
    gate_square_sum: Tensor | None = None

    @property
    def fisher(self) -> Tensor:
        """Fisher diagonal ``(out, in)``: mean over triplets of the squared gradient."""
        return self._mean("fisher", self.fisher_sum, self.samples)

    @property
    def gradient(self) -> Tensor:
        """Mean gradient ``(out, in)`` over triplets."""
        return self._mean("gradient", self.gradient_sum, self.triplets)

    @property
    def gram(self) -> Tensor:
        """Second moment ``(in, in)`` of the inputs: mean over tokens of ``a aᵀ``."""
        return self._mean("gram", self.gram_sum, self.tokens)

    @property
    def input(self) -> Tensor:
        """Mean ``(in,)`` of the inputs over tokens."""
        return self._mean("input", self.input_sum, self.tokens)

    @property
    def input_square(self) -> Tensor:
        """Mean square ``(in,)`` of every input: mean over tokens of ``a²``."""
        return self._mean("input_square", self.input_square_sum, self.tokens)

    @property
    def output_gram(self) -> Tensor:
        """Second moment ``(out, out)`` of the output gradients: mean over tokens of ``d dᵀ``.

        The gradients are those of random projections of each text's normalised embedding
        (:func:`gaprune.statistics.losses.rademacher_probe`), so that it says how far a
        change of the outputs moves embeddings.
        """
        return self._mean("output_gram", self.output_gram_sum, self.tokens)

    @property
    def output_square(self) -> Tensor:
        """Mean square ``(out,)`` of every output gradient of projections: the diagonal of :attr:`output_gram`."""
        return self._mean("output_square", self.output_square_sum, self.tokens)

    @property
    def gate(self) -> Tensor:
        """Mean gate gradient ``(units,)`` over triplets.

        The gate gradient of a unit is the derivative of the loss by a factor on its activation: the sum over the
        triplet's tokens of activation times gradient (Molchanov et al. 2019, arXiv 1906.10771).
        """
        return self._mean("gate", self.gate_sum, self.triplets)

    @property
    def gate_fisher(self) -> Tensor:
        """Fisher of the units ``(units,)``: mean over triplets of the squared gate gradient."""
        return self._mean("gate", self.gate_square_sum, self.triplets)

    def _mean(self, quantity: Statistic, total: Tensor | None, count: int) -> Tensor:
        if total is None or count == 0:
            raise MeasurementError(
                f"{self.name}: {quantity} was not measured.", f"Measure with quantities={{'{quantity}'}}."
            )
        return total / count

    def __add__(self, other: LinearStatistics) -> LinearStatistics:
        if self.name != other.name:
            raise ValueError(f"signals of {self.name} and {other.name} do not add")
        return LinearStatistics(
            self.name,
            self.samples + other.samples,
            self.triplets + other.triplets,
            self.tokens + other.tokens,
            **{name: total + other.sums()[name] for name, total in self.sums().items() if name in other.sums()},
        )

    def beside(self, other: LinearStatistics) -> LinearStatistics:
        """Return these sums and others over the same data."""
        return LinearStatistics(self.name, self.samples, self.triplets, self.tokens, **self.sums() | other.sums())

    def to(self, device: torch.device) -> LinearStatistics:
        """Return them on a device."""
        moved = {name: total.to(device) for name, total in self.sums().items()}
        return LinearStatistics(self.name, self.samples, self.triplets, self.tokens, **moved)

    def sums(self) -> dict[str, Tensor]:
        """Return the sums that were measured, by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self) if each.name.endswith("_sum"))
        return {name: value for name, value in values if value is not None}


class Statistics(Mapping[str, LinearStatistics]):
    """The signals of every selected matrix for one kind of calibration data.

    Args:
        by_name: Signals by name of the matrix, in model order; a mapping that reads them from disk when asked will do.
        fingerprint: Of the triplets they were measured on.
    """

    def __init__(self, by_name: Mapping[str, LinearStatistics], fingerprint: str) -> None:
        self._by_name = by_name
        self.fingerprint = fingerprint

    def __getitem__(self, name: str) -> LinearStatistics:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def beside(self, other: Statistics) -> Statistics:
        """Return these and other quantities of the same matrices on the same data."""
        return Statistics(_Beside(self, other), self.fingerprint)


class _Beside(Mapping[str, LinearStatistics]):
    """Two mappings of the same matrices; each is asked when its quantities are."""

    def __init__(self, first: Mapping[str, LinearStatistics], second: Mapping[str, LinearStatistics]) -> None:
        self._first, self._second = first, second

    def __getitem__(self, name: str) -> LinearStatistics:
        return self._first[name].beside(self._second[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)
