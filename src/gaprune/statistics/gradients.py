"""Contexts that decide where gradients begin, and which activations are kept for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.modes import evaluating
from gaprune.statistics.hooks import HookContext

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@contextmanager
def frozen(model: SentenceTransformer, *, gradients: bool) -> Iterator[None]:
    """Evaluation mode without gradients of parameters; with ``gradients``, those of activations are on."""
    parameters = list(model.parameters())
    required = [parameter.requires_grad for parameter in parameters]
    model.requires_grad_(requires_grad=False)
    try:
        with evaluating(model), torch.set_grad_enabled(gradients):
            yield
    finally:
        for parameter, was_required in zip(parameters, required, strict=True):
            parameter.requires_grad_(was_required)


@contextmanager
def gradients_from(model: SentenceTransformer, linear_layers: Sequence[LinearLayer]) -> Iterator[None]:
    """Let gradients start at the first block that holds one of ``linear_layers``, or behind all embedding tables.

    Which table a family runs cannot be asked: T5 runs another module than ``get_input_embeddings`` names.
    """
    layers = [linear.layer for linear in linear_layers if linear.layer is not None]
    with ExitStack() as stack:
        if len(layers) == len(linear_layers):
            start = blocks(model)[min(layers)].register_forward_pre_hook(_start_at_block, with_kwargs=True)
            stack.callback(start.remove)
        else:
            for table in transformer_of(model).modules():
                if isinstance(table, nn.Embedding):
                    stack.callback(table.register_forward_hook(_start_at_table).remove)
        yield


def _start_at_table(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor | None:
    return output.requires_grad_() if torch.is_grad_enabled() else None


def _start_at_block(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Make the hidden states that a block reads a leaf, unless an earlier call of it made them depend on one."""
    hidden = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(hidden, Tensor) or hidden.requires_grad or not torch.is_grad_enabled():
        return None
    leaf = hidden.detach().requires_grad_()
    return ((leaf, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": leaf})


@contextmanager
def recomputing(model: SentenceTransformer, context: HookContext) -> Iterator[None]:
    """Keep no activations inside the blocks: each block runs once more when its gradients are needed."""
    with ExitStack() as stack:
        for block in blocks(model):
            block.forward = _rerun(block.forward, context)
            stack.callback(delattr, block, "forward")
        yield


def _rerun(forward: Callable[..., Any], context: HookContext) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not args:
            args = (kwargs.pop("hidden_states"),)
        if not (torch.is_grad_enabled() and args[0].requires_grad):
            return forward(*args, **kwargs)
        texts = context.texts

        def run(*inner: Any) -> Any:
            before = context.texts, context.again
            context.texts, context.again = texts, torch.is_grad_enabled()
            try:
                return forward(*inner, **kwargs)
            finally:
                context.texts, context.again = before

        # preserve_rng_state: nothing is drawn in evaluation mode
        return checkpoint(run, *args, use_reentrant=True, preserve_rng_state=False)

    return wrapped
