"""The choice seen as a whole: what a row, or a layer, loses when everything that goes is gone together.

Scores of single weights add up what each would cost alone. Together they cost more or less, because inputs go up and
down with each other: two contributions that cancel are cheap to lose as a pair. With the inputs' second moments
``A = E[a aᵀ]``, a row that loses the weights ``R`` changes its output by ``w_Rᵀ a_R``, whose mean square is
``w_Rᵀ A_RR w_R``; scores see the diagonal of ``A`` alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["exchange", "joint_loss", "removal_order"]

_PIECE = 1 << 18
"""Weights that are worked on at a time: what is kept of them stays in the processor's cache."""

_TOLERANCE = 1e-6
"""Exchanges that win less than this fraction of what a row loses are not made: rounding could undo them."""

_CROWD = 0.7
"""Rows that are done are left behind once fewer than this part of the others still wins: moving them costs too."""


def joint_loss(weight: Tensor, gram: Tensor, keep: Tensor) -> Tensor:
    """Return the mean square of what each row's output loses, ``(out,)``.

    Args:
        weight: ``(out, in)``.
        gram: ``A``, ``(in, in)``.
        keep: True for weights that stay, ``(out, in)``.
    """
    gone = torch.where(keep, 0, weight)
    return ((gone @ gram) * gone).sum(1)


def exchange(
    weight: Tensor,
    gram: Tensor,
    keep: Tensor,
    *,
    there: Tensor | None = None,
    group: int | None = None,
    limit: int | None = None,
) -> Tensor:
    """Return a better choice with as many weights in every row: weights that go and weights that stay change places.

    In every row the removed weight whose return wins most comes back and the one whose removal then costs least goes
    instead, or the other way round, whichever wins more; this is repeated while the row loses less by it. No row gets
    worse, and none changes its count.

    Args:
        weight: ``(out, in)`` in fp32.
        gram: Second moments of the inputs ``A``, ``(in, in)`` in fp32.
        keep: True for weights that stay, ``(out, in)``.
        there: True for weights that may stay, ``(out, in)``; all of them by default.
        group: Exchange only within so many inputs side by side, as the M of an N:M pattern asks.
        limit: Exchanges in a row at most, the best first; no more than there are inputs by default.

    Returns:
        True for weights that stay, ``(out, in)``.

    Source:
        Ours; a local search on the objective of SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774) without its
        update. DSnoT (Zhang et al. 2024, arXiv 2310.08915) exchanges by means and variances of the inputs.
    """
    columns = weight.shape[1]
    group = group or columns
    limit = columns if limit is None else limit
    # Weights of a group lie ``columns / group`` apart, so that the best of every group is found side by side.
    order = torch.arange(columns, device=weight.device).view(-1, group).T.flatten()
    gram = gram[order][:, order]
    blocks = gram.view(group, -1, group, columns // group).diagonal(dim1=1, dim2=3).permute(2, 0, 1)
    barred = torch.zeros_like(keep) if there is None else ~there
    rows = max(1, _PIECE // columns)
    found = torch.empty_like(keep)
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        state = _Rows(weight[part][:, order], keep[part][:, order], barred[part][:, order], gram, blocks)
        for _ in range(limit):
            if not state.step():
                break
        found[part] = state.keep()[:, order.argsort()]
    return found


class _Rows:
    """Some rows under exchange, all at a time. Masks are penalties, 0 or infinite: adding one costs next to nothing.

    Args:
        weight: ``(rows, in)``.
        keep: True for weights that stay, ``(rows, in)``.
        barred: True for weights that cannot come back, ``(rows, in)``.
        gram: ``(in, in)``.
        blocks: Its diagonal blocks, ``(groups, group, group)``.
    """

    def __init__(self, weight: Tensor, keep: Tensor, barred: Tensor, gram: Tensor, blocks: Tensor) -> None:
        self._gram, self._blocks = gram, blocks
        self._found = keep.clone()
        self._index = torch.arange(len(weight), device=weight.device)
        none = torch.zeros_like(weight)
        self._weight = weight
        self._alone = weight.square() * gram.diagonal()
        self._cannot_return = none.masked_fill(keep | barred, torch.inf)
        self._cannot_go = none.masked_fill(~keep, torch.inf)
        gone = torch.where(keep, none, weight)
        self._error = gone @ gram
        self._twice = torch.where(keep, 2 * weight, -2 * weight)
        self._least = _TOLERANCE * (self._error * gone).sum(1)

    def step(self) -> bool:
        """Make one exchange in every row that wins by it; return whether there is one."""
        comes, goes, wins = self._best()
        better = wins < -self._least
        count = int(better.sum())
        if count < _CROWD * len(better):  # rows that are done stay behind
            self._found[self._index] = self.keep_here()
            if not count:
                return False
            comes, goes = comes[better], goes[better]
            for name in ("_index", "_weight", "_alone", "_cannot_return", "_cannot_go", "_error", "_twice", "_least"):
                setattr(self, name, getattr(self, name)[better])
            row = torch.arange(count, device=better.device)
        else:
            row = better.nonzero()[:, 0]
            comes, goes = comes[row], goes[row]
        back, gone = self._weight[row, comes], self._weight[row, goes]
        self._error[row] += gone[:, None] * self._gram[goes] - back[:, None] * self._gram[comes]
        self._cannot_return[row, comes], self._cannot_return[row, goes] = torch.inf, 0.0
        self._cannot_go[row, comes], self._cannot_go[row, goes] = 0.0, torch.inf
        self._twice[row, comes], self._twice[row, goes] = 2 * back, -2 * gone
        return True

    def keep_here(self) -> Tensor:
        """Return what stays in the rows that are not done."""
        return self._cannot_go == 0

    def keep(self) -> Tensor:
        """Return what stays, ``(rows, in)``."""
        self._found[self._index] = self.keep_here()
        return self._found

    def _best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return for every row which weight comes back, which goes instead, and the change of what the row loses.

        Either the one whose return wins most is taken, and the one of its group that costs least once it is back; or
        the one that costs least, and the one of its group whose return wins most once it is gone.
        """
        changes = torch.addcmul(self._alone, self._twice, self._error)
        comes, goes, wins = self._pair(changes, self._cannot_return, self._cannot_go, -1)
        goes_first, comes_second, wins_so = self._pair(changes, self._cannot_go, self._cannot_return, 1)
        as_found = wins <= wins_so
        return (
            torch.where(as_found, comes, comes_second),
            torch.where(as_found, goes, goes_first),
            torch.where(as_found, wins, wins_so),
        )

    def _pair(
        self, changes: Tensor, cannot_first: Tensor, cannot_second: Tensor, sign: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        groups, group = self._blocks.shape[:2]
        by_group = (-1, group, groups)
        change, first = (changes + cannot_first).view(by_group).min(1)
        moved = self._blocks[torch.arange(groups, device=changes.device), first].transpose(1, 2)
        moved = moved * self._weight.view(by_group).gather(1, first[:, None])
        rest = torch.addcmul(changes, self._twice, moved.flatten(1), value=sign).add_(cannot_second)
        cost, second = rest.view(by_group).min(1)
        wins, best = (change + cost).min(1)
        one, other = (each.gather(1, best[:, None])[:, 0] * groups + best for each in (first, second))
        return one, other, wins


def removal_order(loss: Tensor) -> Tensor:
    """Return the place of every unit in the order in which they go, each time the one that costs least together.

    Args:
        loss: ``(units, units)``, symmetric: removing the units ``R`` loses the sum over ``R`` and ``R`` of it.

    Returns:
        ``(units,)``: 0 for the first that goes; the last stays longest.
    """
    units = len(loss)
    alone, together = loss.diagonal(), torch.zeros_like(loss[0])
    place = torch.zeros(units, dtype=loss.dtype, device=loss.device)
    left = torch.zeros_like(place)
    for step in range(units):
        goes = int((alone + 2 * together + left).argmin())
        place[goes], left[goes] = step, torch.inf
        together += loss[goes]
    return place
