"""Exact counts: how many go, from where, and which."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

__all__ = ["budget", "lowest", "shares"]


def budget(sparsity: float, size: int) -> int:
    """Return how many of ``size`` weights a sparsity removes, to the nearest one."""
    return round(sparsity * size)


def shares(sparsity: float, sizes: Sequence[int]) -> list[int]:
    """Split the budget of all groups over them in proportion to their sizes.

    No group is more than one weight off its own proportion, and together they are exactly the budget of the whole.
    """
    edges = [0, *(budget(sparsity, total) for total in accumulate(sizes))]
    return [after - before for before, after in pairwise(edges)]


def lowest(importance: Tensor, count: int) -> Tensor:
    """Return a mask of exactly ``count`` least important entries.

    Among equals at the threshold those that come first go, so the same input always gives the same mask.

    Args:
        importance: Any shape, finite.
        count: How many, between 0 and the number of entries.

    Returns:
        Boolean tensor of the same shape, true for the lowest.
    """
    flat = importance.flatten()
    if count == 0:
        return torch.zeros_like(importance, dtype=torch.bool)
    threshold = flat.kthvalue(count).values
    chosen = flat < threshold
    ties = (flat == threshold).nonzero().squeeze(1)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.view(importance.shape)
