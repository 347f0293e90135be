"""Attention in float32 on processors, where its backward pass in half precision is the slowest part of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

_NAME = "sdpa"
"""The implementation of attention that transformers chooses for most models."""


@contextmanager
def differentiable_attention(device: torch.device) -> Iterator[None]:
    """Let models compute attention in float32 on a processor in a ``with`` block, forward and backward.

    There PyTorch's kernel for attention in bfloat16 takes twice as long as the one in float32, forward and
    backward together (``benchmarks/measuring.py attention``); forward passes alone take equally long. Results have
    the dtype of the queries. Other devices compute as before, and so do models with attention code of their own.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

    native = ALL_ATTENTION_FUNCTIONS[_NAME]
    if device.type == "cpu":
        AttentionInterface.register(_NAME, partial(_in_float32, native))
    try:
        yield
    finally:
        AttentionInterface.register(_NAME, native)


def _in_float32(
    native: Callable[..., Any], module: torch.nn.Module, query: Tensor, *others: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    with torch.autocast(query.device.type, enabled=False):
        named = {name: _widened(value) for name, value in options.items()}
        found, weights = native(module, query.float(), *map(_widened, others), **named)
    return found.to(query.dtype), weights


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
