"""Inverses of second moments, damped so that they exist."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import MeasurementError

_MASSIVE = 1e4
"""Inputs with a mean square so many times the median do not count for the ridge."""


def inverse_factor(moments: Tensor, *, damping: float, name: str) -> Tensor:
    """Return the upper Cholesky factor ``U`` of :func:`damped_inverse`, ``Uᵀ U``, in the type of ``moments``."""
    factor: Tensor = torch.linalg.cholesky(damped_inverse(moments, damping=damping, name=name), upper=True)
    return factor.to(moments.dtype)


def damped_inverse(moments: Tensor, *, damping: float, name: str) -> Tensor:
    """Return ``(H + damping mean(diag H) I)⁻¹``, ``(in, in)``, in double precision.

    Channels with massive activations do not count for the mean, because the ridge would hide all ordinary inputs
    beside them. The ridge alone stands for inputs that are always zero, so their weights are the cheapest to remove.

    Raises:
        MeasurementError: If ``H`` is not positive definite even so.
    """
    wide = moments.double()
    squares = wide.diagonal()
    ordinary = squares <= _MASSIVE * squares.median()
    scale = squares[ordinary].mean() if squares.median() > 0 else squares.mean()
    ridge = damping * torch.where(scale == 0, 1, scale)
    try:
        factor: Tensor = torch.linalg.cholesky(wide + ridge * torch.eye(len(wide)).to(wide))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MeasurementError(
            f"{name}: the second moments of the inputs are not positive definite.",
            "Use more triplets. For sparsegpt, raise the damping: sparsegpt:damping=0.05.",
        ) from error
    return torch.cholesky_inverse(factor)
