"""Inverses of second moments, damped so that they exist."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import SignalError

__all__ = ["inverse_factor"]


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
    inverse = torch.cholesky_inverse(_cholesky(gram, damping, name))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True).to(gram.dtype)
    return factor


def _cholesky(gram: Tensor, damping: float, name: str) -> Tensor:
    wide = gram.double()
    scale = wide.diagonal().mean()
    ridge = damping * torch.where(scale == 0, 1, scale)
    try:
        factor: Tensor = torch.linalg.cholesky(wide + ridge * torch.eye(len(wide)).to(wide))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise SignalError(
            f"{name}: the input second moments are not positive definite.",
            "Use more triplets, or raise damping: sparsegpt:damping=0.05 as the criterion.",
        ) from error
    return factor
