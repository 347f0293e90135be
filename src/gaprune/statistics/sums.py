"""Calibration statistics as sums, so that they add over batches, passes and processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from gaprune.errors import MeasurementError

Statistic = Literal["fisher", "gradient", "gram", "input", "input_square", "output_gram", "output_square", "gate"]
"""What can be measured of a linear layer."""


@dataclass
class LinearStatistics:
    """Sums of one linear layer ``(out, in)`` over the calibration data, all in fp32.

    Every ``*_sum`` has the shape of the property that is its mean. Inputs are summed less ``input_shift``, an early
    estimate of their mean, because a covariance that is the difference of large numbers is lost in rounding.

    Args:
        name: Name of the linear layer.
        samples: Gradients squared in ``fisher_sum``: triplets, or batches for the batch Fisher.
        triplets: Triplets whose gradients were taken; zero if no gradient was needed.
        tokens: Real (not padding) tokens seen.
        input_shift: Subtracted from all inputs before they are summed, ``(in,)``; ``None`` stands for zero.
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
    input_shift: Tensor | None = None

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
        return self._mean("gram", self.shifted(None).gram_sum, self.tokens)

    @property
    def input(self) -> Tensor:
        """Mean ``(in,)`` of the inputs over tokens."""
        return self._mean("input", self.shifted(None).input_sum, self.tokens)

    @property
    def input_square(self) -> Tensor:
        """Mean square ``(in,)`` of every input: mean over tokens of ``a²``."""
        return self._mean("input_square", self.shifted(None).input_square_sum, self.tokens)

    @property
    def covariance(self) -> Tensor:
        """Covariance ``(in, in)`` of the inputs over tokens; ``gram`` and ``input`` must have been measured."""
        mean = self._mean("input", self.input_sum, self.tokens)
        return self._mean("gram", self.gram_sum, self.tokens) - torch.outer(mean, mean)

    @property
    def variance(self) -> Tensor:
        """Variance ``(in,)`` of the inputs; ``input_square`` and ``input`` must have been measured."""
        mean = self._mean("input", self.input_sum, self.tokens)
        return self._mean("input_square", self.input_square_sum, self.tokens) - mean.square()

    @property
    def output_gram(self) -> Tensor:
        """Second moment ``(out, out)`` of the output gradients ``d``: mean over tokens of ``d dᵀ``.

        The gradients are those of random projections of each text's normalised embedding
        (:func:`gaprune.statistics.losses.rademacher_probe`), so that it says how far a change of the outputs moves
        embeddings.
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

    def _mean(self, statistic: Statistic, total: Tensor | None, count: int) -> Tensor:
        if total is None or count == 0:
            raise MeasurementError(
                f"{self.name}: {statistic} was not measured.", f"Measure with statistics={{'{statistic}'}}."
            )
        return total / count

    def shifted(self, shift: Tensor | None) -> LinearStatistics:
        """Return the same statistics with sums of the inputs less another ``input_shift``."""
        if self.input_shift is shift or self.input_sum is None:
            return self
        zero = torch.zeros_like(self.input_sum)
        move = (zero if self.input_shift is None else self.input_shift) - (zero if shift is None else shift)
        moved = replace(self, input_shift=shift, input_sum=self.input_sum + self.tokens * move)
        if self.gram_sum is not None:
            cross = torch.outer(move, self.input_sum)
            moved.gram_sum = self.gram_sum + cross + cross.T + self.tokens * torch.outer(move, move)
        if self.input_square_sum is not None:
            moved.input_square_sum = self.input_square_sum + 2 * move * self.input_sum + self.tokens * move.square()
        return moved

    def __add__(self, other: LinearStatistics) -> LinearStatistics:
        if self.name != other.name:
            raise ValueError(f"statistics of {self.name} and {other.name} do not add")
        others = other.shifted(self.input_shift).sums()
        return LinearStatistics(
            self.name,
            self.samples + other.samples,
            self.triplets + other.triplets,
            self.tokens + other.tokens,
            input_shift=self.input_shift,
            **{name: total + others[name] for name, total in self.sums().items() if name in others},
        )

    def to(self, device: torch.device) -> LinearStatistics:
        """Return them on a device."""
        return self.with_tensors({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def beside(self, other: LinearStatistics) -> LinearStatistics:
        """Return these statistics and others over the same data."""
        return self.with_tensors(other.tensors())

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> LinearStatistics:
        """Return the same statistics with these sums instead of, or beside, their own."""
        return replace(self, **tensors)  # type: ignore[arg-type]

    def sums(self) -> dict[str, Tensor]:
        """Return the sums that were measured, by name."""
        return {name: tensor for name, tensor in self.tensors().items() if name.endswith("_sum")}

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums and the shift, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


class Statistics(Mapping[str, LinearStatistics]):
    """The statistics of every selected linear layer on one kind of calibration data.

    Args:
        parts: Mappings by name of the linear layer, in model order, each with other statistics of the same layers. A
            mapping may read them from disk when it is asked for them.
        fingerprint: Of the triplets that they were measured on.
    """

    def __init__(self, parts: Sequence[Mapping[str, LinearStatistics]], fingerprint: str) -> None:
        self._parts = list(parts)
        self.fingerprint = fingerprint

    def __getitem__(self, name: str) -> LinearStatistics:
        first, *others = (part[name] for part in self._parts)
        for other in others:
            first = first.beside(other)
        return first

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[0])

    def __len__(self) -> int:
        return len(self._parts[0])
