"""Training with masked weights: weights that are zero stay zero, in the model and in the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.models.linear_layers import LinearLayer, linear_layers, select

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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


@contextmanager
def masked_training(
    layers: Sequence[LinearLayer], masks: Mapping[str, Tensor]
) -> Iterator[Callable[[torch.optim.Optimizer], None]]:
    """Keep masked weights at zero inside the block, bit by bit.

    Their gradients are cleared as they arise, so that they count neither in the clipping of gradients nor in what
    processes exchange. The function that the block gets must be called after every step of the optimiser, as by
    ``Optimizer.register_step_post_hook``: it clears the weights and their entries in the optimiser's state.

    Args:
        layers: The linear layers of the model that is trained.
        masks: True for masked weights, ``(out, in)`` by name of the layer.
    """
    weights = {layer.name: layer.module.weight for layer in layers}
    masked = [(weights[name], mask.to(weights[name].device)) for name, mask in masks.items()]
    handles = [
        weight.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient, mask=mask: gradient.masked_fill(mask, 0)
        )
        for weight, mask in masked
    ]

    @torch.no_grad()
    def after_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for weight, mask in masked:
            weight.masked_fill_(mask, 0)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    value.masked_fill_(mask, 0)

    try:
        yield after_step
    finally:
        for handle in handles:
            handle.remove()


def check_masked(model: SentenceTransformer, masks: Mapping[str, Tensor]) -> int:
    """Return the number of masked weights, after checking that all of them are zero in ``model``.

    Raises:
        RuntimeError: If one is not zero; this is a fault of the program.
    """
    weights = {layer.name: layer.module.weight.detach() for layer in linear_layers(model)}
    for name, mask in masks.items():
        lost = int(weights[name][mask.to(weights[name].device)].count_nonzero())
        if lost:
            raise RuntimeError(f"{name}: {lost:,} of {int(mask.sum()):,} masked weights are not zero after training.")
    return sum(int(mask.sum()) for mask in masks.values())


_DROPOUT = ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout")
"""Names of the rates with which modules call the function instead of a module of dropout."""


@contextmanager
def without_dropout(model: SentenceTransformer) -> Iterator[None]:
    """Switch dropout off inside the block; modules remain in training mode, which recomputing activations needs."""
    rates = [
        (module, name)
        for module in model.modules()
        for name in (("p",) if isinstance(module, nn.Dropout) else _DROPOUT)
        if isinstance(getattr(module, name, None), float)
    ]
    before = [getattr(module, name) for module, name in rates]
    try:
        for module, name in rates:
            setattr(module, name, 0.0)
        yield
    finally:
        for (module, name), rate in zip(rates, before, strict=True):
            setattr(module, name, rate)


@contextmanager
def in_float32(model: SentenceTransformer) -> Iterator[None]:
    """Train all weights in float32, and restore dtypes and ``requires_grad`` afterwards."""
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    dtypes = {name: value.dtype for name, value in (*model.named_parameters(), *model.named_buffers())}
    model.float().requires_grad_()
    try:
        yield
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(required[name])
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            value.data = value.data.to(dtypes[name])
