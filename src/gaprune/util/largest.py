"""The largest values of a tensor, deterministically."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["largest"]


def largest(values: Tensor, count: int) -> list[int]:
    """Return the indices of the ``count`` largest of ``values`` in descending order; of equal values the first."""
    if not count:
        return []
    candidates = (values >= values.topk(count).values[-1]).nonzero()[:, 0]
    order = values[candidates].argsort(descending=True, stable=True)
    found: list[int] = candidates[order[:count]].tolist()
    return found
