"""Units chosen by what their loss costs once the matrix that reads them is refit without them."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.criteria.inverse import damped_inverse

__all__ = ["obs_order"]

_RIDGE = 0.01
"""Pull of the refit towards the weights as they are, in mean squares of the inputs.

Less than repair's own: what is left is seen on more texts here, and only compared.
"""

_LAZY = 64
"""Columns that are taken out before the large matrices are brought up to date."""


def obs_order(weight: Tensor, moments: Tensor, curvature: Tensor, *, columns: int, name: str) -> Tensor:
    """Return the place of every unit in the order in which they go, each time the one that costs least after a refit.

    With ``B`` the inverse of the moments of the inputs that are left, and ``D`` the curvature of the outputs,
    the unit with the columns ``K`` costs ``tr(W_Kᵀ D W_K B_KK⁻¹)`` beside those that are gone: what no other input can
    make up for. Then ``W`` is refit, ``W - W_K B_KK⁻¹ B_K``, and ``B`` loses ``K``.

    Args:
        weight: ``W``, ``(out, in)``.
        moments: ``C``, covariance or second moments of the inputs, ``(in, in)``.
        curvature: ``D``, ``(out, out)``.
        columns: Columns of a unit, side by side.
        name: Of the matrix, for the error.

    Returns:
        ``(units,)``: 0 for the first that goes; the last stays longest.

    Raises:
        SignalError: If the moments are not positive definite even with the ridge: not finite, that is.

    Source:
        Optimal Brain Surgeon (Hassibi and Stork 1993) for columns, as ZipLM has it (Kurtic et al. 2023,
        arXiv 2302.04089), with the curvature of the outputs for weight.
    """
    inverse = damped_inverse(moments, damping=_RIDGE, name=name).to(weight.dtype)
    left = _Left(weight, inverse, curvature, columns)
    units = weight.shape[1] // columns
    place = torch.empty(units, dtype=weight.dtype, device=weight.device)
    for step in range(units):
        unit = left.cheapest()
        place[unit] = step
        left.remove(unit)
    return place


class _Left:
    """What is left of a matrix and of the inverse moments of its inputs; changes of some columns wait their turn.

    With ``u`` a column of ``B`` by the root of its diagonal entry and ``p`` the column of ``W`` by the same, taking
    the column out leaves ``B - u uᵀ`` and ``W - p uᵀ``.
    """

    def __init__(self, weight: Tensor, inverse: Tensor, curvature: Tensor, columns: int) -> None:
        self._weight, self._inverse, self._curvature, self._columns = weight, inverse, curvature, columns
        self._u, self._p = weight.new_empty(weight.shape[1], _LAZY), weight.new_empty(len(weight), _LAZY)
        self._waiting = 0
        units = weight.shape[1] // columns
        self._gone = torch.zeros(units, dtype=torch.bool, device=weight.device)
        by_unit = weight.view(len(weight), units, columns).transpose(0, 1)
        self._losses = by_unit.transpose(1, 2) @ (curvature @ by_unit)
        self._inverses = inverse.view(units, columns, units, columns).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()

    def cheapest(self) -> int:
        """Return the unit that is left and costs least: ``tr(W_Kᵀ D W_K B_KK⁻¹)``."""
        if self._columns == 1:
            costs = (self._losses / self._inverses)[:, 0, 0]
        else:
            identity = torch.eye(self._columns).to(self._inverses)
            inverses = torch.where(self._gone[:, None, None], identity, self._inverses)
            costs = torch.linalg.solve(inverses, self._losses).diagonal(dim1=1, dim2=2).sum(1)
        return int(costs.masked_fill(self._gone, torch.inf).argmin())

    def remove(self, unit: int) -> None:
        """Take a unit out, one column after the other."""
        self._gone[unit] = True
        for column in range(unit * self._columns, (unit + 1) * self._columns):
            self._take_out(column)

    def _take_out(self, column: int) -> None:
        waiting = self._waiting
        u, p = self._u[:, :waiting], self._p[:, :waiting]
        inverse = self._inverse[:, column] - u @ u[column]
        weight = self._weight[:, column] - p @ u[column]
        root = inverse[column].clamp_min(torch.finfo(inverse.dtype).tiny).sqrt()
        new_u, new_p = inverse / root, weight / root
        pulled = self._curvature @ new_p
        against = (self._weight.T @ pulled - u @ (p.T @ pulled)).view(-1, self._columns)  # W^T D p
        mine = new_u.view(-1, self._columns)
        self._inverses -= mine[:, :, None] * mine[:, None]
        crossed = mine[:, :, None] * against[:, None]
        self._losses += (new_p @ pulled) * mine[:, :, None] * mine[:, None] - crossed - crossed.transpose(1, 2)
        self._u[:, waiting], self._p[:, waiting] = new_u, new_p
        self._waiting += 1
        if self._waiting == _LAZY:
            self._inverse = self._inverse - self._u @ self._u.T
            self._weight = self._weight - self._p @ self._u.T
            self._waiting = 0
