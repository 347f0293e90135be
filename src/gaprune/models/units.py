"""Units of a model: FFN neurons and attention heads, with all weights that are removed with one.

A unit group is the input of one linear layer: the neurons of a block's FFN (read by its down projection) or the heads
of a block's attention (read by its output projection). To remove a unit is to remove its columns there and the rows
that produce it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from gaprune.errors import ModelError
from gaprune.models.blocks import block_path, transformer_of
from gaprune.models.kinds import WIDTHS, Kind
from gaprune.models.linear_layers import LinearLayer, linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

UnitKind = Literal["width", "heads", "hidden"]

_KINDS: dict[UnitKind, Kind] = {"width": "mlp", "heads": "attention"}

_FUSED_IN_THREE = ("modernbert",)
"""Model types whose fused projection stacks all queries, all keys and all values, in this order."""


def neighbours(units: Tensor, size: int) -> Tensor:
    """Return the rows or columns of ``units`` that take ``size`` neighbours each."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


@dataclass(frozen=True, eq=False)
class Producer:
    """A linear layer that produces the units of a group.

    Args:
        linear: The layer; its rows and the entries of its bias are removed with the units.
        parts: Equal stacked parts of its rows (gate and up in one layer make two); every part has rows of every unit.
        rows: Rows of one unit in each part.
    """

    linear: LinearLayer
    parts: int
    rows: int

    def rows_of(self, kept: Tensor) -> Tensor:
        """Return the indices of the rows of the units ``kept`` in all parts."""
        part = self.linear.module.out_features // self.parts
        return torch.cat([neighbours(kept, self.rows) + index * part for index in range(self.parts)])


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """The units that one linear layer reads.

    Args:
        kind: ``width`` for FFN neurons, ``heads`` for attention heads that share keys and values, ``hidden`` for
            dimensions of the residual stream.
        layer: Index of the block.
        consumer: The layer that reads the units; ``consumer.columns_per_unit`` of its columns are one unit.
        producers: The layers that produce them.
        units: How many there are.
        fields: Fields of the configuration that count them, with how many each unit stands for.
        shared: Whether units of one index are one unit in all groups of the kind, and are kept or removed together.
    """

    kind: UnitKind
    layer: int
    consumer: LinearLayer
    producers: tuple[Producer, ...]
    units: int
    fields: dict[str, int]
    shared: bool = False

    @property
    def name(self) -> str:
        """The consumer's name, which stands for the group."""
        return self.consumer.name

    @property
    def weights(self) -> int:
        """Weights of one unit: its columns and rows, without biases."""
        rows = sum(each.rows * each.parts * each.linear.module.in_features for each in self.producers)
        return rows + self.consumer.columns_per_unit * self.consumer.module.out_features

    @property
    def parameters(self) -> int:
        """Parameters of one unit: its columns, rows and biases."""
        biases = sum(each.rows * each.parts for each in self.producers if each.linear.module.bias is not None)
        return self.weights + biases


def unit_groups(model: SentenceTransformer, kind: Literal["width", "heads"], *, tied: bool = False) -> list[UnitGroup]:
    """Return the unit groups of one kind, one for each block, in order of the blocks.

    Args:
        model: The model.
        kind: ``width`` or ``heads``.
        tied: Whether heads are removed together with hidden dimensions, as families without ``head_dim`` need it.

    Raises:
        ModelError: If the blocks of this family do not have the usual FFN or attention, a weight cannot be changed, or
            the family's configuration cannot state how many units are left.
    """
    blocks: dict[int, list[LinearLayer]] = {}
    for linear in linear_layers(model):
        if linear.layer is not None and linear.kind == _KINDS[kind]:
            blocks.setdefault(linear.layer, []).append(linear)
    transformer = transformer_of(model)
    path = block_path(transformer)
    for layer, block in enumerate(transformer.get_submodule(path).children()):
        _check_block(kind, f"{path}.{layer}", block, blocks.get(layer, ()))
    for linear in (linear for found in blocks.values() for linear in found):
        if linear.obstacle is not None:
            raise linear.obstacle.error(linear.name)
    if kind == "width":
        return [_width(layer, found, transformer.config) for layer, found in sorted(blocks.items())]
    groups = [_heads(layer, found, transformer.config, tied=tied) for layer, found in sorted(blocks.items())]
    has_table = any(
        isinstance(each, nn.Embedding) and each.embedding_dim == transformer.config.num_attention_heads
        for each in transformer.modules()
    )  # one table with an entry for every head serves all blocks (MPNet)
    return [replace(group, shared=has_table) for group in groups]


def _check_block(kind: UnitKind, name: str, block: nn.Module, found: Sequence[LinearLayer]) -> None:
    """Refuse blocks whose units are not in linear layers alone."""
    if not found:
        what = "FFN" if kind == "width" else "attention"
        raise ModelError(
            f"{name} ({type(block).__name__}) has no {what} of linear layers, as in a mixture of experts.",
            "Remove something else from this model.",
        )
    table = next((path for path, each in block.named_modules() if isinstance(each, nn.Embedding)), None)
    if kind == "heads" and table is not None:
        raise ModelError(
            f"{name}.{table} is a table with entries for every head, which is not cut with heads.",
            "Use --width, --depth or --vocabulary for this family.",
        )


def _width(layer: int, found: list[LinearLayer], config: Any) -> UnitGroup:
    field = next((name for name in WIDTHS if isinstance(getattr(config, name, None), int)), None)
    if field is None:
        raise ModelError(
            f"The configuration {type(config).__name__} does not say how wide the FFN is ({', '.join(WIDTHS)}).",
            "Remove something else; please report this family.",
        )
    width = getattr(config, field)
    feeding, consumer = _split(found)
    fit = all(linear.module.out_features in (width, 2 * width) for linear in feeding)
    _expect(bool(feeding) and fit and consumer.module.in_features == width, layer, found, "an FFN")
    producers = tuple(Producer(linear, linear.module.out_features // width, 1) for linear in feeding)
    return UnitGroup("width", layer, consumer, producers, width, {field: 1})


def _heads(layer: int, found: list[LinearLayer], config: Any, *, tied: bool) -> UnitGroup:
    size = config.hidden_size // config.num_attention_heads if tied else getattr(config, "head_dim", None)
    if not isinstance(size, int) or not isinstance(getattr(config, "num_attention_heads", None), int):
        raise ModelError(
            f"The configuration {type(config).__name__} has no head_dim: in this family the hidden size over the "
            "number of heads is the size of a head, so a model with fewer heads cannot be written down.",
            "Use --hidden, which removes heads with hidden dimensions, or --width, --depth or --vocabulary.",
        )
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    feeding, output = _split(found)
    fit = all(linear.module.out_features in (heads * size, groups * size) for linear in feeding)
    parts = 1
    if tied and len(feeding) == 1 and config.model_type in _FUSED_IN_THREE:
        parts, fit = 3, feeding[0].module.out_features == 3 * heads * size
    as_usual = len(feeding) * parts == 3 and fit and output.module.in_features == heads * size
    _expect(as_usual, layer, found, "attention")
    shared = heads // groups
    consumer = replace(output, columns_per_unit=shared * size)
    producers = tuple(Producer(linear, parts, linear.module.out_features // parts // groups) for linear in feeding)
    fields = {"num_attention_heads": shared} | ({} if tied else {"num_key_value_heads": 1})
    return UnitGroup("heads", layer, consumer, producers, groups, fields)


def _split(found: list[LinearLayer]) -> tuple[list[LinearLayer], LinearLayer]:
    """Return the layers that read the residual stream and the one that writes to it."""
    (writer,) = (linear for linear in found if linear.writes_residual)
    return [linear for linear in found if linear is not writer], writer


def _expect(as_usual: bool, layer: int, found: list[LinearLayer], what: str) -> None:
    if not as_usual:
        shapes = ", ".join(f"{each.name} {tuple(each.module.weight.shape)}" for each in found)
        raise ModelError(
            f"The units of {what} cannot be found in the linear layers of block {layer}: {shapes}.",
            "Remove something else; please report this family.",
        )
