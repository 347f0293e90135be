"""Gradual pruning: the sparsity after each round and the steps of recovery that follow it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gaprune.pruning.allocation import budget


@dataclass(frozen=True)
class Round:
    """One round of pruning and recovery: ``number`` counts from zero, and ``sparsity`` is that after it."""

    number: int
    count: int
    sparsity: float
    steps: int


def plan_rounds(sparsity: float, steps: int, count: int) -> list[Round]:
    """Return the rounds that lead to ``sparsity``.

    The sparsity rises by the cubic schedule to exactly ``sparsity``: most weights are pruned in the first rounds, when
    many of them hardly matter. The steps are split as evenly as whole numbers allow.

    Source:
        Zhu and Gupta, To prune, or not to prune (arXiv 1710.01878), equation 1, from a dense start.
    """
    sparsities = [sparsity * (1 - (1 - number / count) ** 3) for number in range(1, count)] + [sparsity]
    ends = [budget(number / count, steps) for number in range(count + 1)]
    return [
        Round(number, count, reached, end - start)
        for number, (reached, (start, end)) in enumerate(zip(sparsities, pairwise(ends), strict=True))
    ]
