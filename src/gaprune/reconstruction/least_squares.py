"""Closed-form repair: what stays of a matrix is refit so that its output comes as near to its goal as it can.

For a matrix ``W`` with bias ``b`` that loses entries, the repaired ``W'`` and ``b'`` minimise

    E |(W' - W) a + (b' - b) - g|^2 + ridge · mean(diag C) · |W' - W|^2

over the inputs ``a`` of the calibration texts, among all ``W'`` that are zero where the decision says so. The gap
``g`` is what ``W a + b`` already falls short of the goal, because other matrices have changed before it. The best bias
makes up for the means of the gap and of what went; the weights then see the inputs' covariance ``C``, and the gap's
with them, ``X``. Without a bias they see the second moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gaprune.errors import MeasurementError
from gaprune.reconstruction.paired_stream import Moments

__all__ = ["RefitLayer", "refit_columns", "refit_entries"]

_STEPS = 200
_TOLERANCE = 1e-5
_ENOUGH = 1e-2


@dataclass(frozen=True)
class RefitLayer:
    """New values of one matrix.

    Args:
        weight: ``(out, in)`` in fp32, zero where nothing stays.
        bias: ``(out,)`` in fp32, ``None`` where the layer has none.
    """

    weight: Tensor
    bias: Tensor | None


def refit_columns(
    weight: Tensor, bias: Tensor | None, moments: Moments, keep: Tensor, *, ridge: float, name: str
) -> RefitLayer:
    """Refit a matrix that loses whole columns, by one direct solve for all rows.

    With ``C`` the covariance (or second moments), ``S`` the columns that stay and ``R`` those that go,
    ``W'_S = W_S + (X_S + W_R C_RS) (C_SS + ridge · mean(diag C) I)⁻¹``.

    Args:
        weight: ``W``, ``(out, in)``.
        bias: ``b``, ``(out,)``.
        moments: Of the inputs that this matrix sees, and of the gaps.
        keep: True for columns that stay, ``(in,)``.
        ridge: Pull towards the original weights, as a fraction of the mean diagonal; larger changes less.
        name: Of the matrix, for the error.

    Raises:
        SignalError: If the moments of the columns that stay are singular even with the ridge.
    """
    seen = moments.seen(centred=bias is not None).double()
    missed = moments.missed(centred=bias is not None).double()
    wide = weight.double()
    factor = _factor(_loaded(seen, ridge)[keep][:, keep], name)
    change = torch.cholesky_solve((missed[:, keep] + wide[:, ~keep] @ seen[~keep][:, keep]).T, factor).T
    reconstructed = torch.zeros_like(wide)
    reconstructed[:, keep] = wide[:, keep] + change
    return _with_bias(weight, bias, moments, reconstructed.float())


def refit_entries(
    weight: Tensor, bias: Tensor | None, moments: Moments, keep: Tensor, *, ridge: float, name: str
) -> RefitLayer:
    """Refit a matrix that loses single entries, every row with a choice of its own.

    All rows are solved together by conjugate gradients. The inverse of the whole covariance, of which every row takes
    its own part, is the preconditioner: a few dozen steps do, of two products of the size of ``W C`` each.

    Args:
        weight: ``W``, ``(out, in)``.
        bias: ``b``, ``(out,)``.
        moments: Of the inputs that this matrix sees, and of the gaps.
        keep: True for entries that stay, ``(out, in)``.
        ridge: Pull towards the original weights, as a fraction of the mean diagonal; larger changes less.
        name: Of the matrix, for the error.

    Raises:
        SignalError: If the moments are singular even with the ridge, or it does not converge.
    """
    wide = _loaded(moments.seen(centred=bias is not None).double(), ridge)
    inverse = torch.cholesky_inverse(_factor(wide, name)).to(weight.dtype)
    loaded = wide.to(weight.dtype)
    keeps = keep.to(weight.dtype)
    change = -weight * (1 - keeps)
    residual = (moments.missed(centred=bias is not None) - change @ loaded) * keeps
    start = _norm(residual)
    limit = _TOLERANCE * start
    direction = preconditioned = (residual @ inverse) * keeps
    product = (residual * preconditioned).sum(1, keepdim=True)
    for _ in range(_STEPS):
        if bool((_norm(residual) <= limit).all()):
            break
        image = (direction @ loaded) * keeps
        step = _ratio(product, (direction * image).sum(1, keepdim=True))
        change = change + step * direction
        residual = residual - step * image
        preconditioned = (residual @ inverse) * keeps
        following = (residual * preconditioned).sum(1, keepdim=True)
        direction = preconditioned + _ratio(following, product) * direction
        product = following
    if not torch.isfinite(change).all() or bool((_norm(residual) > _ENOUGH * start).any()):
        raise MeasurementError(
            f"{name}: its repair does not converge.",
            "Use a larger ridge (--ridge), or leave repair out (--no-reconstruct).",
        )
    return _with_bias(weight, bias, moments, (weight + change) * keeps)


def _loaded(seen: Tensor, ridge: float) -> Tensor:
    """Return the moments with the pull towards the original weights on the diagonal."""
    scale = seen.diagonal().mean()
    return seen + ridge * torch.where(scale > 0, scale, 1) * torch.eye(len(seen)).to(seen)


def _factor(loaded: Tensor, name: str) -> Tensor:
    try:
        factor: Tensor = torch.linalg.cholesky(loaded)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MeasurementError(
            f"{name}: the moments of the inputs that stay are singular.", "Use more triplets, or a larger ridge."
        ) from error
    return factor


def _norm(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return norms


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return the quotient, zero for rows that are done."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), 0)


def _with_bias(weight: Tensor, bias: Tensor | None, moments: Moments, reconstructed: Tensor) -> RefitLayer:
    """Return the repaired matrix with a bias that makes up for the means of the gap and of what went."""
    if bias is None:
        return RefitLayer(reconstructed, None)
    return RefitLayer(reconstructed, bias + moments.gap + (weight - reconstructed) @ moments.mean)
