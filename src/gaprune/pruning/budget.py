"""Exact counts: how many weights are pruned, and in which group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise


def budget(sparsity: float, size: int) -> int:
    """Return how many of ``size`` weights a sparsity removes, to the nearest one."""
    return round(sparsity * size)


def shares(sparsity: float, sizes: Sequence[int]) -> list[int]:
    """Split the budget of all groups over them in proportion to their sizes.

    No group is more than one weight off its own proportion, and together they are exactly the budget of the whole.
    """
    edges = [0, *(budget(sparsity, total) for total in accumulate(sizes))]
    return [after - before for before, after in pairwise(edges)]


def at_least(counts: Sequence[int], least: Sequence[int]) -> list[int]:
    """Return counts of the same sum, none below its least; what they lack is taken one by one where most is to spare.

    Args:
        counts: What every group would lose.
        least: What every group has lost already; together no more than ``counts``.
    """
    found = [max(pair) for pair in zip(counts, least, strict=True)]
    lacking = sum(found) - sum(counts)
    while lacking:
        spare = [index for index, (count, low) in enumerate(zip(found, least, strict=True)) if count > low]
        spare.sort(key=lambda index: least[index] - found[index])
        for index in spare[:lacking]:
            found[index] -= 1
        lacking = max(0, lacking - len(spare))
    return found
