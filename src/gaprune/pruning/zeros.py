"""Unstructured pruning of a model: its shape is kept, and pruned weights become exact zeros."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.errors import ModelError, SelectionError
from gaprune.models.linear_layers import linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Pruning:
    """A decision: which weights are kept, and their new values if a criterion updates them.

    Args:
        keep: True for kept weights, ``(out, in)`` by name of the linear layer.
        weights: Updated weights ``(out, in)`` by name; layers without an entry keep their values.
    """

    keep: Mapping[str, Tensor]
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def zeros(self) -> int:
        """Number of pruned weights."""
        return sum(int(mask.numel() - mask.count_nonzero()) for mask in self.keep.values())

    @property
    def size(self) -> int:
        """Number of selected weights."""
        return sum(mask.numel() for mask in self.keep.values())


@torch.no_grad()
def apply(model: SentenceTransformer, pruning: Pruning, *, inplace: bool = False) -> SentenceTransformer:
    """Return ``model`` with zeros for the pruned weights; a copy unless ``inplace``.

    In place, one weight matrix is held beside the model and the decision; a copy is a second model.

    Raises:
        SelectionError: If the decision names a linear layer that the model does not have in that shape.
        ModelError: If the weight of a layer cannot be changed, or a pruned weight is not zero afterwards.
    """
    pruned = model if inplace else copy.deepcopy(model)
    layers = {layer.name: layer for layer in linear_layers(pruned)}
    for name, keep in pruning.keep.items():
        if name in layers and (obstacle := layers[name].obstacle) is not None:
            raise obstacle.error(name)
        if name not in layers or layers[name].module.weight.shape != keep.shape:
            raise SelectionError(
                f"{name} with shape {tuple(keep.shape)} is not a linear layer of this model.",
                "Apply a decision to the model it was made for.",
            )
    for name, keep in pruning.keep.items():
        weight = layers[name].module.weight
        values = pruning.weights.get(name, weight).to(weight.dtype)
        weight.copy_(torch.where(keep.to(weight.device), values, 0))
    check_zeros(pruned, pruning)
    return pruned


def check_zeros(model: SentenceTransformer, pruning: Pruning) -> None:
    """Count the zeros of ``model`` where ``pruning`` asks for them; call it after whatever changes weights.

    Raises:
        ModelError: If a pruned weight is not zero; it names the linear layer.
    """
    weights = {layer.name: layer.module.weight.detach() for layer in linear_layers(model)}
    for name, keep in pruning.keep.items():
        pruned = int(keep.numel() - keep.count_nonzero())
        zeros = int((weights[name].masked_fill(keep.to(weights[name].device), 1) == 0).sum())
        if zeros != pruned:
            raise ModelError(
                f"{name}: {zeros:,} of the {pruned:,} pruned weights are zero.",
                f"Leave the layer out (--set ignore={name}), and please report it.",
            )
