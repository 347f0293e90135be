"""What a model costs by how many layers, neurons and tokens are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import Tensor

from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Costs"]


@dataclass(frozen=True)
class Costs:
    """Sizes of a parent, from which those of its children follow.

    Args:
        parameters: Parameters of the parent.
        bytes_each: Bytes of a parameter.
        layers: Number of layers.
        block: Parameters of a layer.
        block_weights: Weights of the linear layers of a layer, two operations per token each.
        units: FFN neurons of a layer.
        unit: Parameters of a neuron.
        unit_weights: Weights of a neuron, two operations per token each.
        rows: Rows of the embedding table.
        row: Parameters of a row.
    """

    parameters: int
    bytes_each: int
    layers: int
    block: int
    block_weights: int
    units: int
    unit: int
    unit_weights: int
    rows: int
    row: int

    @classmethod
    def of(cls, model: SentenceTransformer, groups: Sequence[UnitGroup]) -> Self:
        """Return the costs of a parent with these FFN neurons."""
        parameters = list(model.parameters())
        found = blocks(model)
        table: Tensor = transformer_of(model).get_input_embeddings().get_parameter("weight")
        return cls(
            parameters=sum(each.numel() for each in parameters),
            bytes_each=parameters[0].element_size(),
            layers=len(found),
            block=sum(each.numel() for each in found[-1].parameters()),
            block_weights=sum(m.module.weight.numel() for m in linear_layers(model) if m.layer == len(found) - 1),
            units=groups[0].units,
            unit=groups[0].parameters,
            unit_weights=groups[0].weights,
            rows=table.shape[0],
            row=table.shape[1],
        )

    def left(self, *, depth: int, width: int, tokens: int) -> int:
        """Return the parameters without ``depth`` layers, with ``width`` neurons per layer and so many tokens."""
        neurons = (self.layers - depth) * (self.units - width) * self.unit
        return self.parameters - depth * self.block - neurons - (self.rows - tokens) * self.row

    def speedup(self, *, depth: int, width: int) -> float:
        """Return the factor by which the operations per token in the layers' linear layers are fewer."""
        block = self.block_weights - (self.units - width) * self.unit_weights
        return self.layers * self.block_weights / ((self.layers - depth) * block)
