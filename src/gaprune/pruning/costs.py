"""What a model of another shape costs: its parameters, and how fast it is, counted or measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import torch
from torch import Tensor

from gaprune.config.removal import Target
from gaprune.models.blocks import blocks, removable_layers, transformer_of
from gaprune.models.hidden import head_size, heads_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.cut import remove_layers, remove_units
from gaprune.pruning.cut_hidden import remove_hidden
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Shape(Record):
    """What is kept of a model.

    Args:
        layers: Layers.
        width: FFN neurons of a layer.
        hidden: Hidden dimensions.
        tokens: Rows of the embedding table.
        heads: Attention heads of a layer with keys and values of their own; ``None`` where their number follows from
            the hidden size (BERT).
    """

    layers: int
    width: int
    hidden: int
    tokens: int
    heads: int | None = None

    @classmethod
    def of(cls, model: SentenceTransformer) -> Self:
        """Return the shape of a model."""
        config = transformer_of(model).config
        heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
        table: Tensor = transformer_of(model).get_input_embeddings().get_parameter("weight")
        return cls(
            layers=len(blocks(model)),
            width=unit_groups(model, "width")[0].units,
            hidden=config.hidden_size,
            tokens=table.shape[0],
            heads=heads if isinstance(getattr(config, "head_dim", None), int) else None,
        )

    def changed(self, **changes: int | None) -> Self:
        """Return the shape with other numbers."""
        return self.model_copy(update=changes)


def of_shape(parent: SentenceTransformer, shape: Shape) -> SentenceTransformer:
    """Return a model of this shape, cut out of the parent at random: its costs count, not its embeddings.

    The rows of the embedding table are all kept: looking tokens up takes the same time in any table.
    """
    model, whole = parent, Shape.of(parent)
    if shape.hidden < whole.hidden:
        kept = {group.name: range(shape.hidden // head_size(model)) for group in heads_of(model)}
        model = remove_hidden(model, range(shape.hidden), kept)
    if shape.layers < whole.layers:
        model = remove_layers(model, removable_layers(model)[shape.layers - whole.layers :])
    if shape.width < whole.width:
        model = _with_first(model, unit_groups(model, "width"), shape.width)
    if shape.heads is not None and shape.heads != whole.heads:
        model = _with_first(model, unit_groups(model, "heads"), shape.heads)
    return model


def _with_first(model: SentenceTransformer, groups: Sequence[UnitGroup], count: int) -> SentenceTransformer:
    return remove_units(model, groups, {group.name: torch.arange(group.units) < count for group in groups})


class SpeedOfShapes(Protocol):
    """Says how fast the children of one parent are, by their shape alone: no weight is chosen for that."""

    def speedup(self, shape: Shape) -> float:
        """Return how many times faster than its parent a model of this shape is, as far as is known."""

    def confirms(self, shape: Shape) -> bool:
        """Return whether :meth:`speedup` is right about a shape; if not, it will say something else from now on."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, from which those of its children of the same hidden size follow.

    Args:
        whole: Its own shape.
        parameters: Its parameters.
        bytes_each: Bytes of a parameter.
        block: Parameters of a layer.
        block_weights: Weights of the linear layers of a layer, two operations per token each.
        unit: Parameters of a neuron.
        unit_weights: Weights of a neuron, two operations per token each.
        row: Parameters of a row of the embedding table.
    """

    whole: Shape
    parameters: int
    bytes_each: int
    block: int
    block_weights: int
    unit: int
    unit_weights: int
    row: int

    @classmethod
    def of(cls, model: SentenceTransformer) -> Self:
        """Return the sizes of a model."""
        group = unit_groups(model, "width")[0]
        parameters = list(model.parameters())
        found = blocks(model)
        return cls(
            whole=Shape.of(model),
            parameters=sum(each.numel() for each in parameters),
            bytes_each=parameters[0].element_size(),
            block=sum(each.numel() for each in found[-1].parameters()),
            block_weights=sum(m.module.weight.numel() for m in linear_layers(model) if m.layer == len(found) - 1),
            unit=group.parameters,
            unit_weights=group.weights,
            row=transformer_of(model).get_input_embeddings().get_parameter("weight").shape[1],
        )

    def left(self, shape: Shape) -> int:
        """Return the parameters of a child."""
        blocks_gone, neurons_gone = self.whole.layers - shape.layers, self.whole.width - shape.width
        rows_gone = self.whole.tokens - shape.tokens
        return (
            self.parameters - blocks_gone * self.block - shape.layers * neurons_gone * self.unit - rows_gone * self.row
        )

    def operations(self, shape: Shape) -> int:
        """Return the multiply-adds per token in the linear layers of a child's blocks."""
        return shape.layers * (self.block_weights - (self.whole.width - shape.width) * self.unit_weights)


class CountedSpeed:
    """Speed by the number of multiply-adds per token in the linear layers of the blocks; nothing is timed.

    Args:
        parent: The model that speeds refer to.
        sizes: Sizes of every hidden size that is asked about.
    """

    def __init__(self, parent: SentenceTransformer, sizes: Sizes) -> None:
        self._whole = sum(each.module.weight.numel() for each in linear_layers(parent) if each.layer is not None)
        self._sizes = sizes

    def speedup(self, shape: Shape) -> float:
        """Return the factor by which the operations are fewer."""
        return self._whole / self._sizes.operations(shape)

    def confirms(self, shape: Shape) -> bool:
        """Return true: a count is exact."""
        del shape
        return True


def is_met(target: Target, shape: Shape, sizes: Sizes, speed: SpeedOfShapes) -> bool:
    """Return whether a child of this shape reaches the target."""
    if target.kind == "speedup":
        return speed.speedup(shape) >= target.limit
    return sizes.left(shape) * (sizes.bytes_each if target.kind == "size" else 1) <= target.limit
