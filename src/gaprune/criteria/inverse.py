"""Inverses of second moments, damped so that they exist."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import MeasurementError

__all__ = ["damped_inverse", "inverse_factor"]


def inverse_factor(gram: Tensor, *, damping: float, name: str) -> Tensor:
    """Return the upper Cholesky factor ``U``, ``Uᵀ U = (H + damping mean(diag H) I)⁻¹``, in the type of ``gram``.

    It is computed in double precision. The ridge alone stands for inputs that are always zero, so their weights are
    the cheapest to remove.

    Args:
        gram: Input second moments ``H``, ``(in, in)``.
        damping: Ridge as a fraction of the mean diagonal.
        name: Of the matrix, for the error.

    Raises:
        SignalError: If ``H`` is not positive definite even so.
    """
    factor: Tensor = torch.linalg.cholesky(damped_inverse(gram, damping=damping, name=name), upper=True)
    return factor.to(gram.dtype)


def damped_inverse(gram: Tensor, *, damping: float, name: str) -> Tensor:
    """Return ``(H + damping mean(diag H) I)⁻¹``, ``(in, in)``, in double precision.

    Args:
        gram: Input second moments ``H``, ``(in, in)``.
        damping: Ridge as a fraction of the mean diagonal.
        name: Of the matrix, for the error.

    Raises:
        SignalError: If ``H`` is not positive definite even so.
    """
    return torch.cholesky_inverse(_cholesky(gram, damping, name))


def _cholesky(gram: Tensor, damping: float, name: str) -> Tensor:
    wide = gram.double()
    scale = wide.diagonal().mean()
    ridge = damping * torch.where(scale == 0, 1, scale)
    try:
        factor: Tensor = torch.linalg.cholesky(wide + ridge * torch.eye(len(wide)).to(wide))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MeasurementError(
            f"{name}: the input second moments are not positive definite.",
            "Use more triplets, or more damping where it is sparsegpt's: sparsegpt:damping=0.05.",
        ) from error
    return factor
