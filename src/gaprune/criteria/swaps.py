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
from torch.nn.functional import embedding_bag

_CPU_PIECE = 1 << 20
"""Weights refined at a time on a CPU. Smaller pieces spend more time on starting operations."""

_TOLERANCE = 1e-6
"""Swaps that lower the error of a row by less than this fraction are not made: rounding could undo them."""

_COMPACTION_THRESHOLD = 0.7
"""Finished rows are dropped once fewer than this fraction is left; moving the others has a cost."""

_LANES = 64
"""The least of a long row is searched for among the minima of so many strided subsets, because a processor computes a
minimum without its place more than ten times as fast."""


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
    then raises it least. When no such swap lowers the error, the order changes: the kept weight whose pruning raises
    it least and the best restoration after that. A row is finished when both orders in succession fail. No row gets
    worse.

    Args:
        weight: ``(out, in)`` in fp32.
        second_moments: Second moments of the inputs ``A``, ``(in, in)`` in fp32.
        keep: True for kept weights, ``(out, in)``.
        previously_kept: False for weights that are locked, as an earlier round pruned them, ``(out, in)``.
        group: Swap only within so many consecutive inputs, as the M of an N:M pattern requires.
        limit: Maximum number of swaps per row; the number of inputs by default.

    Returns:
        True for kept weights, ``(out, in)``.

    Source:
        Ours; a local search on the objective of SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774) without its
        update. DSnoT (Zhang et al. 2024, arXiv 2310.08915) swaps by means and variances of the inputs.
    """
    columns = weight.shape[1]
    size = group or columns
    by_group = second_moments.view(columns // size, size, columns // size, size)
    blocks = by_group.diagonal(dim1=0, dim2=2).permute(2, 0, 1).reshape(columns, size)
    locked = torch.zeros_like(keep) if previously_kept is None else ~previously_kept
    refined = keep.clone()
    rows = len(weight) if weight.device.type != "cpu" else max(1, _CPU_PIECE // columns)
    for start in range(0, len(weight), rows):
        piece = slice(start, start + rows)
        state = _Rows.of(
            weight[piece], keep[piece], locked[piece], second_moments, columns if limit is None else limit
        )
        _swap(state, refined[piece], second_moments, blocks)
    return refined


def _swap(state: _Rows, refined: Tensor, second_moments: Tensor, blocks: Tensor) -> None:
    """Make swaps in every row until it is finished and write the result to ``refined``, ``(rows, in)``."""
    while True:
        unfinished = state.failures < 2
        if int(unfinished.sum()) < _COMPACTION_THRESHOLD * len(unfinished):
            refined[state.place] = state.keep
            if not bool(unfinished.any()):
                return
            left = unfinished.nonzero()[:, 0]
            state = _Rows(*(each.index_select(0, left) for each in state))
        swap, change = state.best_swap(blocks)
        state.make(swap, (change < -state.least_gain) & (state.limit > 0), second_moments)


class _Rows(NamedTuple):
    """Some rows under refinement. A weight that must not be moved costs infinitely much.

    Args:
        place: Which rows they are, ``(rows,)``.
        flip: What restoring or pruning a weight adds to the pruned weights: minus the weight if it is pruned now, the
            weight if it is kept, ``(rows, in)``.
        error: ``A`` times the pruned weights, ``(rows, in)``.
        first: Error of each weight that the first half of a swap may move, alone, ``(rows, in)``.
        second: Error of each weight that the second half may move, alone, ``(rows, in)``.
        prunes_first: True if the first half prunes and the second restores, ``(rows,)``.
        failures: How often in succession no swap lowered the error, ``(rows,)``.
        limit: How many swaps may still be made, ``(rows,)``.
        least_gain: What a swap has to gain, ``(rows,)``.
    """

    place: Tensor
    flip: Tensor
    error: Tensor
    first: Tensor
    second: Tensor
    prunes_first: Tensor
    failures: Tensor
    limit: Tensor
    least_gain: Tensor

    @classmethod
    def of(cls, weight: Tensor, keep: Tensor, locked: Tensor, second_moments: Tensor, limit: int) -> Self:
        """Return rows before any swap."""
        pruned = weight * ~keep
        error = pruned @ second_moments
        alone = weight.square() * second_moments.diagonal()
        place = torch.arange(len(weight), device=weight.device)
        return cls(
            place,
            weight - 2 * pruned,
            error,
            alone.masked_fill(keep | locked, torch.inf),
            alone.masked_fill(~keep, torch.inf),
            torch.zeros_like(place, dtype=torch.bool),
            torch.zeros_like(place),
            torch.full_like(place, limit),
            _TOLERANCE * (error * pruned).sum(1),
        )

    @property
    def keep(self) -> Tensor:
        """True for weights that are kept now, ``(rows, in)``."""
        return torch.where(self.prunes_first[:, None], self.first, self.second) != torch.inf

    def best_swap(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best first weight of a group with the best second after it, for the best group of every row.

        Args:
            blocks: Second moments of every input and those of its group, ``(in, size)``.

        Returns:
            The two columns, ``(rows, 2)``, and the change of the error of the row, ``(rows,)``.
        """
        size = blocks.shape[1]
        by_group = (len(self.flip), -1, size)
        start = torch.arange(0, len(blocks), size, device=blocks.device)
        change, first = _least(torch.addcmul(self.first, self.flip, self.error, value=2).view(by_group))
        first += start
        error = blocks.index_select(0, first.flatten()).view(by_group)  # the error vector after the first half
        error = torch.addcmul(self.error.view(by_group), error, self.flip.gather(1, first)[:, :, None], out=error)
        after = torch.addcmul(self.second, self.flip, error.view_as(self.flip), value=2, out=error.view_as(self.flip))
        further, second = _least(after.view(by_group))
        total, group = (change + further).min(1, keepdim=True)
        return torch.cat([first.gather(1, group), (second + start).gather(1, group)], 1), total[:, 0]

    def make(self, swap: Tensor, improves: Tensor, second_moments: Tensor) -> None:
        """Make the swaps of the rows that ``improves`` marks, and change the order of the others, in place."""
        added = self.flip.gather(1, swap) * improves[:, None]
        self.error.add_(embedding_bag(swap, second_moments, per_sample_weights=added, mode="sum"))
        self.failures.add_(1).mul_(~improves)
        self.limit.sub_(improves.long())
        turned = self.failures == 1
        rows, others = improves.nonzero(), turned.nonzero()[:, 0]
        swap = swap[rows[:, 0]]
        self.flip[rows, swap] = -self.flip[rows, swap]
        self.first[rows, swap], self.second[rows, swap] = self.second[rows, swap], self.first[rows, swap]
        if len(others):
            self.first[others], self.second[others] = self.second[others], self.first[others]
            self.prunes_first.logical_xor_(turned)


def _least(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least of the last dimension and its place, ``(rows, groups)`` each, of ``(rows, groups, size)``."""
    size = values.shape[2]
    if size % _LANES or size == _LANES:
        least, place = values.min(2)
        return least, place
    by_lane = values.view(*values.shape[:2], -1, _LANES)
    least, lane = by_lane.amin(2).min(2)
    within = by_lane.gather(3, lane[:, :, None, None].expand(-1, -1, by_lane.shape[2], 1))[..., 0].argmin(2)
    return least, within * _LANES + lane


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
