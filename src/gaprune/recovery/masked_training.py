"""Training with masked weights: weights that are zero stay zero, in the model and in the optimiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.selection import select

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch.utils.hooks import RemovableHandle

__all__ = ["MaskedTraining", "check_masked", "masked_layers", "zero_masks"]


def zero_masks(layers: Sequence[LinearLayer]) -> dict[str, Tensor]:
    """Return which weights are exactly zero, true for zeros, ``(out, in)`` by name of the layers that have any."""
    found = {layer.name: layer.module.weight.detach() == 0 for layer in layers}
    return {name: mask for name, mask in found.items() if mask.any()}


def masked_layers(model: SentenceTransformer, targets: Sequence[str] | None) -> list[LinearLayer]:
    """Return the linear layers whose zeros are masked: those named, or all, whichever run of pruning made the zeros.

    Raises:
        SelectionError: If a target matches nothing.
    """
    found = linear_layers(model)
    return found if targets is None else select(found, targets)


class MaskedTraining:
    """Keeps masked weights at zero through training, bit by bit; a context manager around the training.

    The gradients of masked weights are cleared as they arise, so that they count neither in the clipping of gradients
    nor in what processes exchange. After every step the weights and the optimiser's state are cleared too.

    Args:
        layers: The linear layers of the model that is trained.
        masks: True for masked weights, ``(out, in)`` by name of the layer.
    """

    def __init__(self, layers: Sequence[LinearLayer], masks: Mapping[str, Tensor]) -> None:
        weights = {layer.name: layer.module.weight for layer in layers}
        self._masked = [(weights[name], mask.to(weights[name].device)) for name, mask in masks.items()]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for weight, mask in self._masked:
            handle = weight.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient, mask=mask: gradient.masked_fill(mask, 0)
            )
            self._handles.append(handle)
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Clear the masked weights and the entries of the optimiser's state that belong to them.

        Its arguments are those of a hook of ``Optimizer.register_step_post_hook``.
        """
        for weight, mask in self._masked:
            weight.masked_fill_(mask, 0)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    value.masked_fill_(mask, 0)


def check_masked(model: SentenceTransformer, masks: Mapping[str, Tensor]) -> int:
    """Return the number of masked weights, after checking that all of them are zero in ``model``.

    Raises:
        RuntimeError: If one is not zero; this is a fault of the program.
    """
    weights = {layer.name: layer.module.weight.detach() for layer in linear_layers(model)}
    for name, mask in masks.items():
        masked, lost = int(mask.sum()), int(weights[name][mask.to(weights[name].device)].count_nonzero())
        if lost:
            raise RuntimeError(f"{name}: {lost:,} of {masked:,} masked weights are not zero after training.")
    return sum(int(mask.sum()) for mask in masks.values())
