"""Closed-form reconstruction of a linear layer: its kept weights are fitted so that its output approaches a target.

For a linear layer with weight ``W`` and bias ``b`` that loses entries, the reconstructed ``W'`` and ``b'`` minimise

    E |(W' - W) a + (b' - b) - g|² + ridge · Σ_j C_jj |W'_j - W_j|²

over the inputs ``a`` of the calibration texts, among all ``W'`` that are zero at the pruned entries. The gap ``g`` is
what ``W a + b`` already lacks to the target, because other layers changed before it. The best bias compensates the
means of the gap and of the pruned inputs. The weights then see the covariance ``C`` of the inputs, and that of the gap
with them, ``X``. Without a bias they see second moments.

The ridge of each input is relative to its own variance ``C_jj``, so that the fit does not depend on the scale of any
input: one channel with massive activations leaves the others as they are. It is solved with inputs of variance one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import MeasurementError
from gaprune.reconstruction.moments import Moments

_FLOOR = 1e-12
"""Smallest variance by which an input is scaled, relative to the mean over inputs."""

_STEPS = 200
_TOLERANCE = 1e-5
_ENOUGH = 1e-2


class UnsolvedError(MeasurementError):
    """The least squares of a linear layer cannot be solved."""


def fit_columns(
    weight: Tensor, bias: Tensor | None, moments: Moments, keep: Tensor, *, ridge: float, name: str
) -> tuple[Tensor, Tensor | None]:
    """Fit a linear layer that loses whole columns, by one direct solve for all rows.

    With ``S`` the kept columns and ``R`` the pruned ones, of inputs with variance one,
    ``W'_S = W_S + (X_S + W_R C_RS) (C_SS + ridge · I)⁻¹``.

    Args:
        weight: ``W``, ``(out, in)``.
        bias: ``b``, ``(out,)``.
        moments: Moments of the inputs of this layer, and of the gaps.
        keep: True for kept columns, ``(in,)``.
        ridge: Pull towards the original weights, relative to the variance of each input; larger changes less.
        name: Name of the linear layer, for the error.

    Returns:
        The weight in fp32, zero in pruned columns, and the bias.

    Raises:
        UnsolvedError: If the moments of the kept columns are singular even with the ridge.
    """
    inputs, gaps, scale = _scaled(moments, centred=bias is not None)
    wide = weight.double() * scale
    system = inputs[keep][:, keep] + ridge * torch.eye(int(keep.sum())).to(inputs)
    target = gaps[:, keep] + wide[:, ~keep] @ inputs[~keep][:, keep]
    change = torch.cholesky_solve(target.T, _cholesky(system, name)).T
    fitted = torch.zeros_like(weight)
    fitted[:, keep] = weight[:, keep] + (change / scale[keep]).to(weight.dtype)
    return _with_bias(weight, bias, moments, fitted, name)


def fit_entries(
    weight: Tensor, bias: Tensor | None, moments: Moments, keep: Tensor, *, ridge: float, name: str
) -> tuple[Tensor, Tensor | None]:
    """Fit a linear layer that loses single entries, with another choice in every row.

    All rows are solved together by conjugate gradients. The preconditioner is the inverse of the whole covariance, of
    which every row takes its own part: a few dozen steps suffice, of two products of the size of ``W C`` each.
    Arguments and results are those of :func:`fit_columns`, but ``keep`` is true for kept entries, ``(out, in)``.

    Raises:
        UnsolvedError: If the moments are singular even with the ridge, or the solver does not converge.
    """
    inputs, gaps, scale = _scaled(moments, centred=bias is not None)
    wide = inputs + ridge * torch.eye(len(inputs)).to(inputs)
    inverse = torch.cholesky_inverse(_cholesky(wide, name)).to(weight.dtype)
    system, scale = wide.to(weight.dtype), scale.to(weight.dtype)
    mask = keep.to(weight.dtype)
    change = -weight * scale * (1 - mask)
    residual = (gaps.to(weight.dtype) - change @ system) * mask
    start = _norm(residual)
    direction = preconditioned = (residual @ inverse) * mask
    product = (residual * preconditioned).sum(1, keepdim=True)
    for _ in range(_STEPS):
        if bool((_norm(residual) <= _TOLERANCE * start).all()):
            break
        image = (direction @ system) * mask
        step = _ratio(product, (direction * image).sum(1, keepdim=True))
        change = change + step * direction
        residual = residual - step * image
        preconditioned = (residual @ inverse) * mask
        following = (residual * preconditioned).sum(1, keepdim=True)
        direction = preconditioned + _ratio(following, product) * direction
        product = following
    if bool((_norm(residual) > _ENOUGH * start).any()):
        raise _unsolved(name, "does not converge")
    return _with_bias(weight, bias, moments, (weight + change / scale) * mask, name)


def _scaled(moments: Moments, *, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moments of inputs with variance one, those of the gaps with them, and the scale of each input.

    Inputs that hardly vary keep a scale of a fraction of the mean, so that rounding is not blown up.
    """
    inputs = moments.of_inputs(centred=centred).double()
    variances = inputs.diagonal().clamp_min(_FLOOR * inputs.diagonal().mean())
    scale = torch.where(variances > 0, variances, 1).sqrt()
    return inputs / scale / scale[:, None], moments.of_gaps(centred=centred).double() / scale, scale


def _cholesky(system: Tensor, name: str) -> Tensor:
    try:
        factor: Tensor = torch.linalg.cholesky(system)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise _unsolved(name, "is singular") from error
    return factor


def _unsolved(name: str, fault: str) -> UnsolvedError:
    return UnsolvedError(
        f"{name}: the least-squares problem of the reconstruction {fault}.",
        "Use more triplets or a larger ridge (--set ridge=1), or switch reconstruction off (--no-reconstruct).",
    )


def _norm(rows: Tensor) -> Tensor:
    norms: Tensor = rows.norm(dim=1, keepdim=True)
    return norms


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return the quotient, zero for rows that are solved."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), 0)


def _with_bias(
    weight: Tensor, bias: Tensor | None, moments: Moments, fitted: Tensor, name: str
) -> tuple[Tensor, Tensor | None]:
    """Return the fitted weight with a bias that compensates the means of the gap and of the pruned inputs."""
    if bias is not None:
        bias = bias + moments.gap + (weight - fitted) @ moments.mean
    if not torch.isfinite(fitted).all() or (bias is not None and not torch.isfinite(bias).all()):
        raise _unsolved(name, "has no finite solution")
    return fitted, bias
