"""The choice seen as a whole: what a row, or a layer, loses when everything that goes is gone together.

Scores of single weights add up what each would cost alone. Together they cost more or less, because inputs go up and
down with each other: two contributions that cancel are cheap to lose as a pair. With the inputs' second moments
``A = E[a aᵀ]``, a row that loses the weights ``R`` changes its output by ``w_Rᵀ a_R``, whose mean square is
``w_Rᵀ A_RR w_R``; scores see the diagonal of ``A`` alone.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["greedy_order", "joint_loss", "refine_by_swaps"]

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


def refine_by_swaps(
    weight: Tensor,
    gram: Tensor,
    keep: Tensor,
    *,
    previously_kept: Tensor | None = None,
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
        previously_kept: True for weights that may stay, ``(out, in)``; all of them by default.
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
    barred = torch.zeros_like(keep) if previously_kept is None else ~previously_kept
    rows = max(1, _PIECE // columns)
    found = torch.empty_like(keep)
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        stays = keep[part][:, order].clone()
        state = _Rows.of(weight[part][:, order], stays, barred[part][:, order], gram)
        for _ in range(limit):
            comes, goes, wins = state.best(blocks)
            better = wins < -state.least
            if int(better.sum()) < _CROWD * len(better):
                stays[state.place] = state.stays
                if not bool(better.any()):
                    break
                state = _Rows(*(each[better] for each in state))
                comes, goes, better = comes[better], goes[better], better[better]
            state.refine_by_swaps(better.nonzero()[:, 0], comes[better], goes[better], gram)
        stays[state.place] = state.stays
        found[part] = stays[:, order.argsort()]
    return found


class _Rows(NamedTuple):
    """Some rows under exchange. Masks are penalties, 0 or infinite: adding one costs next to nothing.

    Args:
        place: Which rows they are, ``(rows,)``.
        weight: ``(rows, in)``; so are all that follow but the last.
        alone: What each weight costs alone.
        error: What the row loses, seen through the moments: ``A`` times the weights that are gone.
        twice: Twice the weight; negative where it is gone.
        cannot_return: Infinite where a weight stays, or may not come back.
        cannot_go: Infinite where a weight is gone.
        least: What an exchange has to win, ``(rows,)``.
    """

    place: Tensor
    weight: Tensor
    alone: Tensor
    error: Tensor
    twice: Tensor
    cannot_return: Tensor
    cannot_go: Tensor
    least: Tensor

    @classmethod
    def of(cls, weight: Tensor, keep: Tensor, barred: Tensor, gram: Tensor) -> Self:
        """Return rows as they are before any exchange."""
        none = torch.zeros_like(weight)
        gone = torch.where(keep, none, weight)
        error = gone @ gram
        return cls(
            torch.arange(len(weight), device=weight.device),
            weight,
            weight.square() * gram.diagonal(),
            error,
            torch.where(keep, 2 * weight, -2 * weight),
            none.masked_fill(keep | barred, torch.inf),
            none.masked_fill(~keep, torch.inf),
            _TOLERANCE * (error * gone).sum(1),
        )

    @property
    def stays(self) -> Tensor:
        """True for weights that stay now, ``(rows, in)``."""
        return self.cannot_go == 0

    def refine_by_swaps(self, row: Tensor, comes: Tensor, goes: Tensor, gram: Tensor) -> None:
        """Let one weight come back and another go in each of these rows, in place."""
        back, gone = self.weight[row, comes], self.weight[row, goes]
        self.error[row] += gone[:, None] * gram[goes] - back[:, None] * gram[comes]
        self.cannot_return[row, comes], self.cannot_return[row, goes] = torch.inf, 0.0
        self.cannot_go[row, comes], self.cannot_go[row, goes] = 0.0, torch.inf
        self.twice[row, comes], self.twice[row, goes] = 2 * back, -2 * gone

    def best(self, blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for every row which weight comes back, which goes instead, and the change of what the row loses.

        Either the one whose return wins most is taken, and the one of its group that costs least once it is back; or
        the one that costs least, and the one of its group whose return wins most once it is gone.
        """
        changes = torch.addcmul(self.alone, self.twice, self.error)
        comes, goes, wins = self._pair(changes, self.cannot_return, self.cannot_go, -1, blocks)
        goes_first, comes_second, wins_so = self._pair(changes, self.cannot_go, self.cannot_return, 1, blocks)
        as_found = wins <= wins_so
        return (
            torch.where(as_found, comes, comes_second),
            torch.where(as_found, goes, goes_first),
            torch.where(as_found, wins, wins_so),
        )

    def _pair(
        self, changes: Tensor, cannot_first: Tensor, cannot_second: Tensor, sign: int, blocks: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best first of each group with the best second beside it, of the group that wins most."""
        groups, group = blocks.shape[:2]
        by_group = (-1, group, groups)
        change, first = (changes + cannot_first).view(by_group).min(1)
        moved = blocks[torch.arange(groups, device=changes.device), first].transpose(1, 2)
        moved = moved * self.weight.view(by_group).gather(1, first[:, None])
        rest = torch.addcmul(changes, self.twice, moved.flatten(1), value=sign).add_(cannot_second)
        cost, second = rest.view(by_group).min(1)
        wins, best = (change + cost).min(1)
        one, other = (each.gather(1, best[:, None])[:, 0] * groups + best for each in (first, second))
        return one, other, wins


def greedy_order(loss: Tensor) -> Tensor:
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
