"""Exact counts: how many go, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

__all__ = ["budget", "shares"]


def budget(sparsity: float, size: int) -> int:
    """Return how many of ``size`` weights a sparsity removes, to the nearest one."""
    return round(sparsity * size)


def shares(sparsity: float, sizes: Sequence[int]) -> list[int]:
    """Split the budget of all groups over them in proportion to their sizes.

    No group is more than one weight off its own proportion, and together they are exactly the budget of the whole.
    """
    edges = [0, *(budget(sparsity, total) for total in accumulate(sizes))]
    return [after - before for before, after in pairwise(edges)]
