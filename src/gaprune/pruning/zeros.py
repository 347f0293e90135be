"""Unstructured surgery: the shape stays, removed weights become exact zeros."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.errors import SelectionError
from gaprune.models.linear_layers import linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Pruning", "apply"]


@dataclass(frozen=True)
class Pruning:
    """A decision: which weights stay, and new values of those that do where a criterion updates them.

    Args:
        keep: True where a weight stays, ``(out, in)`` by name of the matrix.
        weights: Updated weights ``(out, in)`` by name; matrices without an entry keep their values.
    """

    keep: Mapping[str, Tensor]
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def zeros(self) -> int:
        """Number of weights removed."""
        return sum(int(mask.numel() - mask.count_nonzero()) for mask in self.keep.values())

    @property
    def size(self) -> int:
        """Number of weights that were up for removal."""
        return sum(mask.numel() for mask in self.keep.values())


@torch.no_grad()
def apply(model: SentenceTransformer, pruning: Pruning, *, inplace: bool = False) -> SentenceTransformer:
    """Return ``model`` with the weights that do not stay set to zero; a copy unless ``inplace``.

    In place, no more than one matrix is held beside the model and the decision; a copy is a second model.

    Raises:
        SelectionError: If the decision names a linear layer that the model does not have in that shape.
        ModelError: If the weight of a layer cannot be changed.
    """
    pruned = model if inplace else copy.deepcopy(model)
    layers = {layer.name: layer for layer in linear_layers(pruned)}
    for name, keep in pruning.keep.items():
        if name in layers and (obstacle := layers[name].obstacle) is not None:
            raise obstacle.error(name)
        if name not in layers or layers[name].module.weight.shape != keep.shape:
            raise SelectionError(
                f"{name} with shape {tuple(keep.shape)} is no matrix of this model.",
                "Apply a decision to the model it was made for.",
            )
    for name, keep in pruning.keep.items():
        weight = layers[name].module.weight
        values = pruning.weights.get(name, weight).to(weight.dtype)
        weight.copy_(torch.where(keep.to(weight.device), values, 0))
        if layers[name].module.weight.count_nonzero() > keep.count_nonzero():
            raise RuntimeError(f"{name}: fewer weights are zero than were removed")
    return pruned
