"""Moments of a linear layer's inputs and of the gaps of its outputs, accumulated so that large means do not cancel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from gaprune.util.products import gram, product


@dataclass(frozen=True)
class Moments:
    """Means and covariances over real tokens, in fp32, of inputs ``a`` and of gaps ``g = target - output``.

    Covariances are held without the means. Subtracting the product of the means from second moments in fp32 leaves
    only noise if a mean is thousands of times larger than the standard deviation.

    Args:
        mean: ``E[a]``, ``(in,)``.
        covariance: ``E[(a - E[a]) (a - E[a])ᵀ]``, ``(in, in)``.
        gap: ``E[g]``, ``(out,)``.
        cross: ``E[(g - E[g]) (a - E[a])ᵀ]``, ``(out, in)``.
    """

    mean: Tensor
    covariance: Tensor
    gap: Tensor
    cross: Tensor

    @classmethod
    def of(cls, inputs: Tensor, gaps: Tensor, products: torch.dtype = torch.float32) -> Self:
        """Return the moments of rows of inputs ``(tokens, in)`` and of gaps ``(tokens, out)``.

        Centred rows are rounded to the dtype ``products`` before they are multiplied.
        """
        mean, gap = inputs.mean(0), gaps.mean(0)
        centred, others = inputs - mean, gaps - gap
        count = len(inputs)
        return cls(mean, gram(centred, products).div_(count), gap, product(others, centred, products).div_(count))

    def through(self, weight: Tensor) -> Moments:
        """Return the moments of the same inputs, with the gaps that this weight, ``(out, in)``, makes of the gaps."""
        return replace(self, gap=weight @ self.gap, cross=weight @ self.cross)

    def mixed(self, other: Moments, share: float) -> Moments:
        """Return the moments of a mixture with this share of ``other`` (Chan et al. 1979)."""
        spread = share * (1 - share)
        apart, gap_apart = other.mean - self.mean, other.gap - self.gap
        return Moments(
            torch.lerp(self.mean, other.mean, share),
            torch.lerp(self.covariance, other.covariance, share).addr_(apart, apart, alpha=spread),
            torch.lerp(self.gap, other.gap, share),
            torch.lerp(self.cross, other.cross, share).addr_(gap_apart, apart, alpha=spread),
        )

    def of_inputs(self, *, centred: bool) -> Tensor:
        """Return what the weights see of the inputs: the covariance if a bias takes the mean, else second moments."""
        return self.covariance if centred else torch.addr(self.covariance, self.mean, self.mean)

    def of_gaps(self, *, centred: bool) -> Tensor:
        """Return what inputs explain of the gaps, ``(out, in)``, without means if a bias takes them."""
        return self.cross if centred else torch.addr(self.cross, self.gap, self.mean)


class MomentAccumulator:
    """The moments of all rows added so far."""

    def __init__(self, products: torch.dtype = torch.float32) -> None:
        self._products = products
        self._tokens = 0
        self._moments: Moments | None = None

    def add(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Add rows of inputs ``(tokens, in)``, and of outputs and targets ``(tokens, out)``."""
        if len(inputs) == 0:
            return
        self._tokens += len(inputs)
        found = Moments.of(inputs, targets - outputs, self._products)
        self._moments = found if self._moments is None else self._moments.mixed(found, len(inputs) / self._tokens)

    def moments(self) -> Moments:
        """Return the moments; at least one row must have been added."""
        if self._moments is None:
            raise ValueError("no rows were added")
        return self._moments
