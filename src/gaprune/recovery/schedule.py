"""Pruning a bit at a time: how much is gone after each round."""

from __future__ import annotations

from itertools import pairwise

from gaprune.pruning.budget import budget

__all__ = ["sparsities", "steps_of_rounds"]


def sparsities(final: float, rounds: int) -> list[float]:
    """Return the sparsity after each round, rising by the cubic schedule to exactly ``final``.

    Most goes in the first rounds, while there is much that hardly matters.

    Source:
        Zhu and Gupta, To prune, or not to prune (arXiv 1710.01878), equation 1, from a dense start.
    """
    return [final * (1 - (1 - turn / rounds) ** 3) for turn in range(1, rounds)] + [final]


def steps_of_rounds(steps: int, rounds: int) -> list[int]:
    """Split the steps of recovery over the rounds, as evenly as whole numbers allow; together they are ``steps``."""
    ends = [budget(turn / rounds, steps) for turn in range(rounds + 1)]
    return [end - start for start, end in pairwise(ends)]
