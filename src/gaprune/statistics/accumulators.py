"""One small class for each quantity: what it allocates, what it takes from a forward pass, what from a backward."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.sums import Statistic

__all__ = ["BACKWARD", "PROJECTED", "Accumulator", "GramCache", "TripletActivations", "accumulators_of", "shapes_of"]

BACKWARD: frozenset[Statistic] = frozenset({"fisher", "gradient", "output_gram", "output_square", "gate"})
"""The quantities that need a backward pass."""

PROJECTED: frozenset[Statistic] = frozenset({"output_gram", "output_square"})
"""Those of them whose backward starts at random projections of the embeddings, not at the contrastive loss."""

_TILE = 2**20
"""Weights of a matrix that are worked on at a time: gradient and sums of a tile stay in the processor's cache."""


@dataclass(frozen=True)
class TripletActivations:
    """Everything of one matrix over some whole triplets, rows in the order of the triplets.

    Args:
        inputs: ``(tokens, in)`` in fp32.
        output_gradients: ``(tokens, out)`` in fp32.
        input_gradients: ``(tokens, in)`` in fp32 where an accumulator needs them.
        lengths: How many rows each triplet has.
    """

    inputs: Tensor
    output_gradients: Tensor
    input_gradients: Tensor | None
    lengths: list[int]


class GramCache:
    """Keeps the last Gram product, because query, key and value (gate and up) read the same input."""

    def __init__(self) -> None:
        self._inputs: Tensor | None = None
        self._product: Tensor | None = None

    def product(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return ``rowsᵀ rows``, reused while ``inputs`` is the very same tensor as before."""
        if self._product is None or self._inputs is not inputs:
            self._inputs, self._product = inputs, rows.T @ rows
        return self._product

    def clear(self) -> None:
        """Let go of the last product."""
        self._inputs = self._product = None


class Accumulator(ABC):
    """Sums of one kind for one matrix.

    Args:
        matrix: The matrix.
        sums: The tensors named by :meth:`shapes`, in fp32; they are added to in place.
    """

    reads_input_gradients: ClassVar[bool] = False

    def __init__(self, matrix: LinearLayer, sums: Mapping[str, Tensor]) -> None:
        self.matrix = matrix
        self.sums = sums

    @staticmethod
    @abstractmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the sums by their names in :class:`gaprune.statistics.MatrixSignals`, if asked for."""

    def forward(self, inputs: Tensor, rows: Tensor, grams: GramCache) -> None:  # noqa: B027 (not all look here)
        """Add what the inputs of one call say: ``inputs`` as the layer got them, ``rows`` of its real tokens."""

    def backward(self, measured: TripletActivations) -> None:  # noqa: B027 (nor there)
        """Add what whole triplets say, once their gradients are known."""


class Gram(Accumulator):
    """Second moments of the inputs."""

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """One ``(in, in)``."""
        inputs = matrix.module.in_features
        return {"gram_sum": (inputs, inputs)} if "gram" in quantities else {}

    def forward(self, inputs: Tensor, rows: Tensor, grams: GramCache) -> None:
        """Add ``aᵀ a``."""
        self.sums["gram_sum"].add_(grams.product(inputs, rows))


class Input(Accumulator):
    """The inputs themselves."""

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """One ``(in,)``."""
        return {"input_sum": (matrix.module.in_features,)} if "input" in quantities else {}

    def forward(self, inputs: Tensor, rows: Tensor, grams: GramCache) -> None:  # noqa: ARG002 (the interface)
        """Add ``a``."""
        self.sums["input_sum"].add_(rows.sum(0))


class InputSquare(Accumulator):
    """The diagonal of the inputs' second moments."""

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """One ``(in,)``."""
        return {"input_square_sum": (matrix.module.in_features,)} if "input_square" in quantities else {}

    def forward(self, inputs: Tensor, rows: Tensor, grams: GramCache) -> None:  # noqa: ARG002 (the interface)
        """Add ``a²``."""
        self.sums["input_square_sum"].add_(rows.square().sum(0))


class OutputGram(Accumulator):
    """Second moments of the output gradients of random projections of the embeddings."""

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """One ``(out, out)``."""
        outputs = matrix.module.out_features
        return {"output_gram_sum": (outputs, outputs)} if "output_gram" in quantities else {}

    def backward(self, measured: TripletActivations) -> None:
        """Add ``dᵀ d``."""
        self.sums["output_gram_sum"].addmm_(measured.output_gradients.T, measured.output_gradients)


class OutputSquare(Accumulator):
    """The diagonal of the second moments of the output gradients."""

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """One ``(out,)``."""
        return {"output_square_sum": (matrix.module.out_features,)} if "output_square" in quantities else {}

    def backward(self, measured: TripletActivations) -> None:
        """Add ``d²``."""
        self.sums["output_square_sum"].add_(measured.output_gradients.square().sum(0))


class Gates(Accumulator):
    """Gate gradients of the units that a matrix reads: activation times gradient, summed over a triplet's tokens."""

    reads_input_gradients = True

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """Sum and sum of squares, ``(units,)`` each."""
        units = matrix.module.in_features // matrix.columns_per_unit
        return {"gate_sum": (units,), "gate_square_sum": (units,)} if "gate" in quantities else {}

    def backward(self, measured: TripletActivations) -> None:
        """Add each triplet's gate gradients and their squares."""
        if measured.input_gradients is None:
            raise AssertionError("gates are measured with input gradients")
        products = measured.inputs * measured.input_gradients
        products = products.view(len(products), -1, self.matrix.columns_per_unit).sum(2)
        gates = torch.stack([part.sum(0) for part in torch.split(products, measured.lengths)])
        self.sums["gate_sum"].add_(gates.sum(0))
        self.sums["gate_square_sum"].add_(gates.square().sum(0))


class WeightGradients(Accumulator):
    """Gradients of the weight, and their squares by triplet: the Fisher diagonal.

    The gradient of one triplet is ``dᵀ a``. It is formed a tile of the matrix at a time, all triplets of the batch
    in turn, and is never there as a whole.
    """

    @staticmethod
    def shapes(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
        """``(out, in)`` for either."""
        shape = (matrix.module.out_features, matrix.module.in_features)
        return {f"{quantity}_sum": shape for quantity in ("fisher", "gradient") if quantity in quantities}

    def backward(self, measured: TripletActivations) -> None:
        """Add each triplet's gradient and its square."""
        fisher, gradient = self.sums.get("fisher_sum"), self.sums.get("gradient_sum")
        if fisher is None:
            self.sums["gradient_sum"].addmm_(measured.output_gradients.T, measured.inputs)
            return
        triplets = [
            (deltas, inputs)
            for deltas, inputs in zip(
                torch.split(measured.output_gradients, measured.lengths),
                torch.split(measured.inputs, measured.lengths),
                strict=True,
            )
            if len(deltas)
        ]
        rows = math.ceil(_TILE / fisher.shape[1])
        buffer = fisher.new_empty(min(rows, len(fisher)), fisher.shape[1])
        for start in range(0, len(fisher), rows):
            part = slice(start, start + rows)
            squares, sums = fisher[part], None if gradient is None else gradient[part]
            tile = buffer[: len(squares)]
            for deltas, inputs in triplets:
                torch.mm(deltas[:, part].T, inputs, out=tile)
                squares.addcmul_(tile, tile)
                if sums is not None:
                    sums.add_(tile)


class BatchGradients(WeightGradients):
    """Gradients of the weight, and the squares of whole batches' mean-loss gradients in the Fisher diagonal."""

    def backward(self, measured: TripletActivations) -> None:
        """Add the batch's gradient, and the square of its mean."""
        total = measured.output_gradients.T @ measured.inputs
        if "gradient_sum" in self.sums:
            self.sums["gradient_sum"].add_(total)
        if "fisher_sum" in self.sums:
            self.sums["fisher_sum"].add_(total.div_(len(measured.lengths)).square_())


def _kinds(*, batch_fisher: bool) -> tuple[type[Accumulator], ...]:
    last = BatchGradients if batch_fisher else WeightGradients
    return Gram, Input, InputSquare, OutputGram, OutputSquare, Gates, last


def shapes_of(matrix: LinearLayer, quantities: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all sums of one matrix, by name."""
    return {
        name: shape for kind in _kinds(batch_fisher=False) for name, shape in kind.shapes(matrix, quantities).items()
    }


def accumulators_of(
    matrix: LinearLayer, quantities: Collection[Statistic], sums: Mapping[str, Tensor], *, batch_fisher: bool
) -> list[Accumulator]:
    """Return the accumulators that ``quantities`` need, adding to ``sums`` (named and shaped as :func:`shapes_of`)."""
    kinds = _kinds(batch_fisher=batch_fisher)
    return [kind(matrix, sums) for kind in kinds if kind.shapes(matrix, quantities)]
