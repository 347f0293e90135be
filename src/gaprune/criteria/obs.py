"""Units ordered by the error that their removal leaves after reconstruction (structured Optimal Brain Surgeon)."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.criteria.inverse import damped_inverse

_RIDGE = 0.01
"""Ridge of the reconstruction that is foreseen, relative to the mean variance of the inputs.

It is smaller than that of the reconstruction itself: the moments come from more texts here, and are only compared.
"""

_DELAY = 64
"""Columns that are removed before the large matrices are updated."""

_GONE = 1 / 8
"""Share of removed units from which the matrices are made smaller."""


def obs_order(weight: Tensor, moments: Tensor, curvature: Tensor, *, columns: int, name: str) -> Tensor:
    """Return the place of every unit in the order of removal, each time the unit that leaves the least error.

    With ``B`` the inverse of the moments of the inputs that are left, and ``D`` the curvature of the outputs, removing
    the unit with the columns ``K`` leaves the error ``tr(W_Kᵀ D W_K B_KK⁻¹)``, which no other input can compensate.
    Then ``W`` is reconstructed, ``W - W_K B_KK⁻¹ B_K``, and ``B`` loses ``K``.

    Args:
        weight: ``W``, ``(out, in)``.
        moments: ``C``, covariance or second moments of the inputs, ``(in, in)``.
        curvature: ``D``, ``(out, out)``.
        columns: Consecutive columns of a unit.
        name: Name of the linear layer, for the error.

    Returns:
        ``(units,)``: 0 for the unit that is removed first.

    Raises:
        MeasurementError: If the moments are not finite.

    Source:
        Optimal Brain Surgeon (Hassibi and Stork 1993) for columns, as in ZipLM (Kurtic et al. 2023,
        arXiv 2302.04089), weighted by the curvature of the outputs.
    """
    inverse = damped_inverse(moments, damping=_RIDGE, name=name).to(weight.dtype)
    remaining = _Remaining(weight, inverse, curvature, columns)
    units = weight.shape[1] // columns
    place = torch.empty(units, dtype=weight.dtype, device=weight.device)
    for step in range(units):
        place[remaining.remove_cheapest()] = step
    return place


class _Remaining:
    """What remains of ``W`` and ``B`` while units are removed; updates of the whole matrices are delayed.

    The matrices shrink from time to time: ``_units`` has the indices of the units whose columns they still have.

    Removing the column ``j`` sets ``W' = W - W_j B_j / B_jj`` and ``B' = B - B_jᵀ B_j / B_jj``. These are updates of
    rank one, ``W - p uᵀ`` and ``B - u uᵀ``, with ``u = B_j / √B_jj`` and ``p = W_j / √B_jj``. The last of them wait in
    ``_u`` and ``_p``, so that the current column is ``B_j - U u_j`` and ``W_j - P u_j``, ``U`` and ``P`` the updates
    that wait, ``u_j`` the entries of ``U`` for the column.

    The errors need only the diagonal blocks of ``B`` and of ``L = Wᵀ D W``, which are always current. From ``W'``,

        L' = (W - p uᵀ)ᵀ D (W - p uᵀ) = L - u (Wᵀ D p)ᵀ - (Wᵀ D p) uᵀ + (pᵀ D p) u uᵀ.
    """

    def __init__(self, weight: Tensor, inverse: Tensor, curvature: Tensor, columns: int) -> None:
        units = weight.shape[1] // columns
        self._weight, self._inverse, self._curvature, self._columns = weight, inverse, curvature, columns
        self._u, self._p = weight.new_empty(weight.shape[1], _DELAY), weight.new_empty(len(weight), _DELAY)
        self._waiting = self._gone = 0
        self._units = torch.arange(units, device=weight.device)
        self._removed = torch.zeros(units, dtype=torch.bool, device=weight.device)
        by_unit = weight.view(len(weight), units, columns).transpose(0, 1)
        self._losses = by_unit.transpose(1, 2) @ (curvature @ by_unit)  # diagonal blocks of L
        self._inverses = inverse.view(units, columns, units, columns).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()

    def remove_cheapest(self) -> Tensor:
        """Remove the unit that leaves the least error, one column after the other, and return its index."""
        place = self._cheapest()
        unit = self._units[place]
        self._removed[place] = True
        for column in range(place * self._columns, (place + 1) * self._columns):
            self._take_out(column)
        self._gone += 1
        if self._gone >= _GONE * len(self._units):
            self._shrink()
        return unit

    def _cheapest(self) -> int:
        """Return the place of the remaining unit that leaves the least error: ``tr(W_Kᵀ D W_K B_KK⁻¹)``."""
        if self._columns == 1:
            errors = (self._losses / self._inverses)[:, 0, 0]
        else:
            identity = torch.eye(self._columns).to(self._inverses)
            inverses = torch.where(self._removed[:, None, None], identity, self._inverses)
            errors = torch.linalg.solve(inverses, self._losses).diagonal(dim1=1, dim2=2).sum(1)
        return int(errors.masked_fill(self._removed, torch.inf).argmin())

    def _take_out(self, column: int) -> None:
        """Remove a column by the updates of rank one of the class docstring."""
        waiting_u, waiting_p = self._u[:, : self._waiting], self._p[:, : self._waiting]
        inverse = self._inverse[:, column] - waiting_u @ waiting_u[column]
        weight = self._weight[:, column] - waiting_p @ waiting_u[column]
        root = inverse[column].clamp_min(torch.finfo(inverse.dtype).tiny).sqrt()
        u, p = inverse / root, weight / root
        curved = self._curvature @ p  # D p
        crossed = self._weight.T @ curved - waiting_u @ (waiting_p.T @ curved)  # Wᵀ D p
        u_blocks, crossed_blocks = u.view(-1, self._columns), crossed.view(-1, self._columns)
        square = u_blocks[:, :, None] * u_blocks[:, None]
        mixed = u_blocks[:, :, None] * crossed_blocks[:, None]
        self._inverses -= square
        self._losses += (p @ curved) * square - mixed - mixed.transpose(1, 2)
        self._u[:, self._waiting], self._p[:, self._waiting] = u, p
        self._waiting += 1
        if self._waiting == _DELAY:
            self._update()

    def _update(self) -> None:
        """Apply the updates that wait."""
        waiting = self._u[:, : self._waiting]
        self._inverse = self._inverse - waiting @ waiting.T
        self._weight = self._weight - self._p[:, : self._waiting] @ waiting.T
        self._waiting = 0

    def _shrink(self) -> None:
        """Drop the columns of removed units."""
        self._update()
        left = ~self._removed
        columns = left.repeat_interleave(self._columns).nonzero().squeeze(1)
        self._inverse = self._inverse.index_select(0, columns).index_select(1, columns)
        self._weight, self._u = self._weight.index_select(1, columns), self._u[: len(columns)]
        self._losses, self._inverses = self._losses[left], self._inverses[left]
        self._units, self._removed, self._gone = self._units[left], self._removed[left], 0
