"""Products of tall matrices, rounded to a faster type before they are multiplied, and summed in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["gram", "product"]

_BLOCK = 768
"""Columns of a block: of blocks that mirror each other only one is multiplied."""


def gram(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``rowsᵀ rows`` of ``rows``, ``(tokens, features)``, in float32; it is symmetric to the last bit."""
    rounded, size = rows.to(dtype), rows.shape[1]
    total = rows.new_empty(size, size)
    for start in range(0, size, _BLOCK):
        end = start + _BLOCK
        total[start:end, start:] = rounded[:, start:end].T @ rounded[:, start:]
        total[end:, start:end] = total[start:end, end:].T
    return total


def product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``leftᵀ right`` of ``(tokens, m)`` and ``(tokens, n)`` in float32."""
    return (left.to(dtype).T @ right.to(dtype)).to(left.dtype)
