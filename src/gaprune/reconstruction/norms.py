"""Refitting the scale and the bias of a norm whose statistics are taken over fewer dimensions than in the parent.

Over fewer dimensions a hidden state has another mean and another deviation, so all outputs of the norm are shifted and
scaled. For each dimension, with ``y`` the output of the norm and ``t`` the parent's, ``a y + c`` is fitted to ``t``,

    a = (cov(y, t) + ridge · var(y)) / ((1 + ridge) var(y)),   c = E[t] - a E[y],

and both are multiplied into the norm. A norm without bias takes second moments in place of covariances.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class NormMoments:
    """Means over tokens, in fp64, of ``y``, ``t``, ``y²`` and ``y t`` for each dimension, ``(4, hidden)``."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._tokens = 0

    def add(self, own: Tensor, parent: Tensor) -> None:
        """Add rows of the model's outputs and of the parent's, ``(tokens, hidden)``."""
        own, parent = own.double(), parent.double()
        sums = torch.stack([each.sum(0) for each in (own, parent, own.square(), own * parent)])
        self._sums = sums if self._sums is None else self._sums + sums
        self._tokens += len(own)

    @property
    def means(self) -> Tensor:
        """The means; at least one row must have been added."""
        if self._sums is None:
            raise ValueError("no rows were added")
        return self._sums / self._tokens


@torch.no_grad()
def fit_norm(norm: Any, means: Tensor, *, ridge: float) -> tuple[Tensor, Tensor]:
    """Change the scale and the bias of ``norm`` so that its outputs approach the parent's.

    Returns ``a`` and ``c``, ``(hidden,)`` each.

    Args:
        norm: A norm with a ``weight``, and perhaps a ``bias``, ``(hidden,)``.
        means: As in :class:`NormMoments`, perhaps those of a mixture.
        ridge: Pull towards the norm as it is, relative to the variance of each output.
    """
    own, parent, square, cross = means
    bias = getattr(norm, "bias", None)
    if bias is not None:
        square, cross = square - own.square(), cross - own * parent
    square = square.clamp_min(torch.finfo(square.dtype).tiny)
    scale = (cross + ridge * square) / ((1 + ridge) * square)
    shift = torch.zeros_like(scale) if bias is None else parent - scale * own
    if bias is None:  # some families multiply by 1 + weight: what ones come out as is the scale
        norm.weight.add_(norm(torch.ones_like(norm.weight)) * (scale - 1).to(norm.weight))
    else:
        norm.weight.mul_(scale.to(norm.weight))
        bias.copy_((scale * bias.double() + shift).to(bias))
    return scale, shift
