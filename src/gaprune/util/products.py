"""Products of tall matrices in float32, from factors that may be rounded to a faster type first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_BLOCK = 256
"""Columns of a block: of blocks that mirror each other only one is multiplied."""


def gram(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``rowsᵀ rows`` of ``rows``, ``(tokens, features)``, in float32; it is symmetric to the last bit.

    Factors may be rounded to ``dtype``, the result is not: a rounded Gram matrix of few rows is not positive definite.
    """
    size = rows.shape[1]
    total = rows.new_empty(size, size)
    with _factors_in(dtype, rows.device):
        for start in range(0, size, _BLOCK):
            end = start + _BLOCK
            total[start:end, start:] = rows[:, start:end].T @ rows[:, start:]
            total[end:, start:end] = total[start:end, end:].T
    return total


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``leftᵀ right`` of ``(tokens, m)`` and ``(tokens, n)`` in float32."""
    with _factors_in(dtype, left.device):
        return left.T @ right


@contextmanager
def _factors_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Let factors in float32 be rounded where the hardware gains by it; products are summed in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == torch.bfloat16 else before)
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
