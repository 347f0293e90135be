"""The sums that are measured of a linear layer: their shapes, and what inputs and gradients add to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.sums import Statistic

BACKWARD: frozenset[Statistic] = frozenset({"fisher", "gradient", "output_gram", "output_square", "gate"})
"""The statistics that need a backward pass."""

PROJECTED: frozenset[Statistic] = frozenset({"output_gram", "output_square"})
"""Those whose backward pass starts at random projections of the embeddings, not at the contrastive loss."""

_TILE = 2**20
"""Weights that are worked on at a time: the gradient and the sums of a tile stay in the cache of the processor."""


@dataclass(frozen=True)
class TripletActivations:
    """Inputs and gradients of one linear layer over some whole triplets, rows in the order of the triplets, in fp32.

    Args:
        inputs: ``(tokens, in)``.
        output_gradients: ``(tokens, out)``.
        input_gradients: ``(tokens, in)`` if gates are measured.
        lengths: Number of rows of each triplet.
    """

    inputs: Tensor
    output_gradients: Tensor
    input_gradients: Tensor | None
    lengths: list[int]


def shapes_of(linear: LinearLayer, statistics: Collection[Statistic]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of :class:`gaprune.statistics.sums.LinearStatistics` that are needed."""
    rows, columns = linear.module.out_features, linear.module.in_features
    units = (columns // linear.columns_per_unit,)
    shapes: dict[Statistic, dict[str, tuple[int, ...]]] = {
        "gram": {"gram_sum": (columns, columns)},
        "input": {"input_sum": (columns,), "input_shift": (columns,)},
        "input_square": {"input_square_sum": (columns,)},
        "output_gram": {"output_gram_sum": (rows, rows)},
        "output_square": {"output_square_sum": (rows,)},
        "gate": {"gate_sum": units, "gate_square_sum": units},
        "fisher": {"fisher_sum": (rows, columns)},
        "gradient": {"gradient_sum": (rows, columns)},
    }
    return {name: shape for each in shapes if each in statistics for name, shape in shapes[each].items()}


def add_inputs(sums: Mapping[str, Tensor], rows: Tensor, gram: Callable[[Tensor], Tensor]) -> None:
    """Add the inputs of one call, rows in fp32 less the shift, to the sums; ``gram`` returns ``rowsᵀ rows``."""
    if "gram_sum" in sums:
        sums["gram_sum"].add_(gram(rows))
    if "input_sum" in sums:
        sums["input_sum"].add_(rows.sum(0))
    if "input_square_sum" in sums:
        sums["input_square_sum"].add_(rows.square().sum(0))


def add_gradients(
    sums: Mapping[str, Tensor], activations: TripletActivations, *, unit: int, batch_fisher: bool
) -> None:
    """Add the gradients of whole triplets.

    Args:
        sums: Tensors named as by :func:`shapes_of`, changed in place.
        activations: Inputs and gradients.
        unit: Inputs of the linear layer that one unit has.
        batch_fisher: Whether the Fisher diagonal squares the gradient of the mean loss instead of each triplet's.
    """
    gradients = activations.output_gradients
    if "output_gram_sum" in sums:
        sums["output_gram_sum"].addmm_(gradients.T, gradients)
    if "output_square_sum" in sums:
        sums["output_square_sum"].add_(gradients.square().sum(0))
    if activations.input_gradients is not None:
        products = (activations.inputs * activations.input_gradients).view(len(gradients), -1, unit).sum(2)
        gates = torch.stack([part.sum(0) for part in torch.split(products, activations.lengths)])
        sums["gate_sum"].add_(gates.sum(0))
        sums["gate_square_sum"].add_(gates.square().sum(0))
    if "fisher_sum" in sums and not batch_fisher:
        _add_triplet_gradients(sums["fisher_sum"], sums.get("gradient_sum"), activations)
    elif "fisher_sum" in sums:
        total = gradients.T @ activations.inputs
        if "gradient_sum" in sums:
            sums["gradient_sum"].add_(total)
        sums["fisher_sum"].add_(total.div_(len(activations.lengths)).square_())
    elif "gradient_sum" in sums:
        sums["gradient_sum"].addmm_(gradients.T, activations.inputs)


def _add_triplet_gradients(fisher: Tensor, gradient: Tensor | None, activations: TripletActivations) -> None:
    """Add the gradient of the weight by each triplet, ``dᵀ a``, and its square.

    It is formed for a tile of the weight at a time, for one triplet after the other, and never exists as a whole.
    """
    gradients = torch.split(activations.output_gradients, activations.lengths)
    inputs = torch.split(activations.inputs, activations.lengths)
    triplets = [pair for pair in zip(gradients, inputs, strict=True) if len(pair[0])]
    rows = math.ceil(_TILE / fisher.shape[1])
    buffer = fisher.new_empty(min(rows, len(fisher)), fisher.shape[1])
    for start in range(0, len(fisher), rows):
        part = slice(start, start + rows)
        squares, sums = fisher[part], None if gradient is None else gradient[part]
        tile = buffer[: len(squares)]
        for output_gradients, of_triplet in triplets:
            torch.mm(output_gradients[:, part].T, of_triplet, out=tile)
            squares.addcmul_(tile, tile)
            if sums is not None:
                sums.add_(tile)
