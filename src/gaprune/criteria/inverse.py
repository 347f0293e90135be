"""Inverses of second moments, damped so that they exist."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import MeasurementError

__all__ = ["damped_inverse", "inverse_factor"]

_FLOOR = 1e-12
"""Smallest mean square of an input that counts, relative to the mean over inputs."""


def inverse_factor(moments: Tensor, *, damping: float, name: str) -> Tensor:
    """Return the upper Cholesky factor ``U`` of :func:`damped_inverse`, ``Uᵀ U``, in the type of ``moments``."""
    factor: Tensor = torch.linalg.cholesky(damped_inverse(moments, damping=damping, name=name), upper=True)
    return factor.to(moments.dtype)


def damped_inverse(moments: Tensor, *, damping: float, name: str) -> Tensor:
    """Return ``(H + damping diag(H))⁻¹``, ``(in, in)``, in double precision.

    The ridge of each input is relative to its own mean square. A ridge relative to the mean over all inputs would
    hide the ordinary ones beside a channel with massive activations. Inputs that are always zero get a small ridge, so
    that their weights are the cheapest to remove.

    Args:
        moments: Second moments ``H`` of the inputs, ``(in, in)``.
        damping: Ridge, relative to the diagonal.
        name: Name of the linear layer, for the error.

    Raises:
        MeasurementError: If ``H`` is not positive definite even so.
    """
    wide = moments.double()
    squares = wide.diagonal().clamp_min(_FLOOR * wide.diagonal().mean())
    ridge = damping * torch.where(squares > 0, squares, 1)
    try:
        factor: Tensor = torch.linalg.cholesky(wide + ridge.diag())
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise MeasurementError(
            f"{name}: the second moments of the inputs are not positive definite.",
            "Use more triplets. For sparsegpt, raise the damping: sparsegpt:damping=0.05.",
        ) from error
    return torch.cholesky_inverse(factor)
