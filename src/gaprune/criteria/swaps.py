"""Weights chosen together: the error of a row, swap refinement, and greedy removal of units.

Scores of single weights add up what each costs alone. Together they cost more or less, because inputs are correlated:
two contributions that cancel are cheap to prune as a pair. With the inputs' second moments ``A = E[a aᵀ]``, a row that
loses the weights ``R`` changes its output by ``w_Rᵀ a_R``, whose mean square is ``w_Rᵀ A_RR w_R``; scores see only the
diagonal of ``A``.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["greedy_order", "refine_by_swaps"]

_CPU_PIECE = 1 << 18
"""Weights refined at a time on a CPU, so that their state stays in its cache."""

_TOLERANCE = 1e-6
"""Swaps that lower the error of a row by less than this fraction are not made: rounding could undo them."""

_COMPACTION_THRESHOLD = 0.7
"""Converged rows are dropped once fewer than this fraction still improves; moving the others has a cost."""


def refine_by_swaps(
    weight: Tensor,
    second_moments: Tensor,
    keep: Tensor,
    *,
    previously_kept: Tensor | None = None,
    group: int | None = None,
    limit: int | None = None,
) -> Tensor:
    """Return a better choice with as many kept weights in every row, by swaps of a pruned and a kept weight.

    A swap takes the pruned weight whose restoration lowers the error of the row most and the kept weight whose pruning
    then raises it least, or the kept weight whose pruning raises it least and the best restoration after that. The
    better of the two is made while it lowers the error. No row gets worse.

    Args:
        weight: ``(out, in)`` in fp32.
        second_moments: Second moments of the inputs ``A``, ``(in, in)`` in fp32.
        keep: True for kept weights, ``(out, in)``.
        previously_kept: False for weights that are locked, as an earlier round pruned them, ``(out, in)``.
        group: Swap only within so many consecutive inputs, as the M of an N:M pattern requires.
        limit: Maximum number of swaps per row, the best first; the number of inputs by default.

    Returns:
        True for kept weights, ``(out, in)``.

    Source:
        Ours; a local search on the objective of SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774) without its
        update. DSnoT (Zhang et al. 2024, arXiv 2310.08915) swaps by means and variances of the inputs.
    """
    columns = weight.shape[1]
    size = group or columns
    by_group = second_moments.view(columns // size, size, columns // size, size)
    blocks = by_group.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (groups, size, size)
    locked = torch.zeros_like(keep) if previously_kept is None else ~previously_kept
    refined = keep.clone()
    rows = len(weight) if weight.device.type != "cpu" else max(1, _CPU_PIECE // columns)
    for start in range(0, len(weight), rows):
        piece = slice(start, start + rows)
        state = _Rows.of(weight[piece], keep[piece], locked[piece], second_moments)
        _swap(state, refined[piece], second_moments, blocks, columns if limit is None else limit)
    return refined


def _swap(state: _Rows, refined: Tensor, second_moments: Tensor, blocks: Tensor, limit: int) -> None:
    """Make at most ``limit`` swaps in every row and write the result to ``refined``, ``(rows, in)``."""
    for _ in range(limit):
        swap = state.best_swap(blocks)
        improves = swap.change < -state.least_gain
        if int(improves.sum()) < _COMPACTION_THRESHOLD * len(improves):
            refined[state.place] = state.keep
            if not bool(improves.any()):
                return
            state, swap = _Rows(*(each[improves] for each in state)), _Swap(*(each[improves] for each in swap))
            improves = improves[improves]
        state.make(swap, improves.nonzero()[:, 0], second_moments)
    refined[state.place] = state.keep


class _Swap(NamedTuple):
    """One swap per row, ``(rows,)`` each.

    Args:
        restored: Column of the pruned weight that is restored.
        pruned: Column of the kept weight that is pruned.
        change: Change of the error of the row.
    """

    restored: Tensor
    pruned: Tensor
    change: Tensor


class _Rows(NamedTuple):
    """Some rows under refinement. Masks are penalties, 0 or infinite, because adding one is cheap.

    Args:
        place: Which rows they are, ``(rows,)``.
        weight: ``(rows, in)``, as are all that follow but the last.
        alone: Error of each weight if it is pruned alone.
        error: ``A`` times the pruned weights.
        twice: Twice the weight; negative if it is pruned.
        no_restore: Infinite if a weight is kept or locked.
        no_prune: Infinite if a weight is pruned.
        least_gain: What a swap has to gain, ``(rows,)``.
    """

    place: Tensor
    weight: Tensor
    alone: Tensor
    error: Tensor
    twice: Tensor
    no_restore: Tensor
    no_prune: Tensor
    least_gain: Tensor

    @classmethod
    def of(cls, weight: Tensor, keep: Tensor, locked: Tensor, second_moments: Tensor) -> Self:
        """Return rows before any swap."""
        zeros = torch.zeros_like(weight)
        pruned = torch.where(keep, zeros, weight)
        error = pruned @ second_moments
        return cls(
            torch.arange(len(weight), device=weight.device),
            weight,
            weight.square() * second_moments.diagonal(),
            error,
            torch.where(keep, 2 * weight, -2 * weight),
            zeros.masked_fill(keep | locked, torch.inf),
            zeros.masked_fill(~keep, torch.inf),
            _TOLERANCE * (error * pruned).sum(1),
        )

    @property
    def keep(self) -> Tensor:
        """True for weights that are kept now, ``(rows, in)``."""
        return self.no_prune == 0

    def make(self, swap: _Swap, rows: Tensor, second_moments: Tensor) -> None:
        """Make the swaps of some rows in place."""
        restored, pruned = swap.restored[rows], swap.pruned[rows]
        back, gone = self.weight[rows, restored], self.weight[rows, pruned]
        self.error[rows] += gone[:, None] * second_moments[pruned] - back[:, None] * second_moments[restored]
        self.no_restore[rows, restored], self.no_restore[rows, pruned] = torch.inf, 0.0
        self.no_prune[rows, restored], self.no_prune[rows, pruned] = 0.0, torch.inf
        self.twice[rows, restored], self.twice[rows, pruned] = 2 * back, -2 * gone

    def best_swap(self, blocks: Tensor) -> _Swap:
        """Return the better of two swaps per row: by the best restoration first, or by the best pruning first."""
        changes = torch.addcmul(self.alone, self.twice, self.error)  # of the error, by restoring or pruning one weight
        restoring, pruning = changes + self.no_restore, changes + self.no_prune
        restored, pruned, change = self._best_pair(restoring, pruning, -1, blocks)
        pruned_first, restored_second, other = self._best_pair(pruning, restoring, 1, blocks)
        first = change <= other
        return _Swap(
            torch.where(first, restored, restored_second),
            torch.where(first, pruned, pruned_first),
            torch.where(first, change, other),
        )

    def _best_pair(self, firsts: Tensor, seconds: Tensor, sign: int, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the columns and the change of the best first weight of a group with the best second after it.

        Args:
            firsts: Change of the error by each first weight, ``(rows, in)``.
            seconds: Change of the error by each second weight alone, ``(rows, in)``.
            sign: -1 if the first weight is restored, 1 if it is pruned.
            blocks: Second moments within each group, ``(groups, size, size)``.
        """
        groups, size = blocks.shape[:2]
        by_group = (len(firsts), groups, size)
        change, first = firsts.view(by_group).min(2)
        moved = blocks[torch.arange(groups, device=first.device), first]
        moved = moved * self.weight.view(by_group).gather(2, first[:, :, None])  # change of the error vector
        after, second = torch.addcmul(seconds, self.twice, moved.flatten(1), value=sign).view(by_group).min(2)
        total, group = (change + after).min(1)
        one, other = (group * size + each.gather(1, group[:, None])[:, 0] for each in (first, second))
        return one, other, total


def greedy_order(loss: Tensor) -> Tensor:
    """Return the place of every unit in the order of removal, if each time the unit with the least joint loss goes.

    Args:
        loss: ``(units, units)``, symmetric: the loss without the units ``R`` is its sum over ``R`` and ``R``.

    Returns:
        ``(units,)``: 0 for the unit that is removed first.
    """
    units = len(loss)
    alone, interactions = loss.diagonal(), torch.zeros_like(loss[0])
    place = torch.zeros(units, dtype=loss.dtype, device=loss.device)
    removed = torch.zeros_like(place)
    for step in range(units):
        unit = int((alone + 2 * interactions + removed).argmin())
        place[unit], removed[unit] = step, torch.inf
        interactions += loss[unit]
    return place
