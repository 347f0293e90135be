"""Choosing entries: the lowest over any number of tensors, the largest of one, or N of every M."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from gaprune.errors import ConfigError

_PIECE = 1 << 20
"""Entries counted at a time, so that what is made of them stays in the processor's cache."""

_HALF = 1 << 16
"""Values of half of the 32 bits of an entry."""


def lowest(importance: Tensor, count: int) -> Tensor:
    """Return a mask of exactly ``count`` least important entries.

    Among equals at the threshold those that come first go, so the same input always gives the same mask.

    Args:
        importance: Any shape, fp32, finite.
        count: How many, between 0 and the number of entries.

    Returns:
        Boolean tensor of the same shape, true for the lowest.
    """
    return next(lowest_of(lambda: [importance], count))


def lowest_of(tensors: Callable[[], Iterable[Tensor]], count: int) -> Iterator[Tensor]:
    """Yield a mask for each of several tensors, of exactly ``count`` least important entries of all together.

    Nothing is sorted or joined: the tensors are gone through twice to find the threshold and once to apply it, and
    beside the masks only one of them is needed at a time. Among equals at the threshold those that come first go.

    Args:
        tensors: Returns the tensors, the same at every call; any shape, fp32, finite.
        count: How many, between 0 and the number of all entries.
    """
    threshold, ties = _threshold(tensors, count) if count else (-torch.inf, 0)
    for values in tensors():
        flat = values.flatten()
        chosen = flat < threshold
        if ties:
            equals = (flat == threshold).nonzero().squeeze(1)[:ties]
            chosen[equals] = True
            ties -= len(equals)
        yield chosen.view(values.shape)


def _threshold(tensors: Callable[[], Iterable[Tensor]], count: int) -> tuple[float, int]:
    """Return the ``count``-th lowest entry, and how many of its equals are among the ``count`` lowest.

    The integer that stands for the entry is found by its upper sixteen bits, then by its lower ones.
    """
    upper, rank = _bin_of(((order >> 16) + _HALF // 2 for order in _orders(tensors())), count)
    upper -= _HALF // 2
    lower, rank = _bin_of((order[order >> 16 == upper] & (_HALF - 1) for order in _orders(tensors())), rank)
    order = torch.tensor(upper * _HALF + lower, dtype=torch.int32)
    return float(_reordered(order).view(torch.float32)), rank


def _bin_of(bins: Iterable[Tensor], rank: int) -> tuple[int, int]:
    """Return the bin in which the entry of this rank lies, and its rank there; ranks count from one."""
    counts = torch.zeros(_HALF, dtype=torch.int64)
    for each in bins:
        counts += torch.bincount(each, minlength=_HALF).cpu()
    totals = counts.cumsum(0)
    found = int(torch.searchsorted(totals, rank))
    return found, rank - int(totals[found] - counts[found])


def _orders(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield integers in the order of the entries, equal where they are, piece by piece."""
    for values in tensors:
        for piece in torch.split(values.flatten(), _PIECE):
            yield _reordered((piece.float() + 0.0).view(torch.int32))  # adding zero turns -0 into 0, its equal


def _reordered(bits: Tensor) -> Tensor:
    """Return the bits of floats as integers in the order of the floats; its own inverse.

    Negative floats are signs and magnitudes: their magnitude is turned over.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def largest(values: Tensor, count: int) -> list[int]:
    """Return the indices of the ``count`` largest of ``values`` in descending order; of equal values the first."""
    if not count:
        return []
    candidates = (values >= values.topk(count).values[-1]).nonzero()[:, 0]
    order = values[candidates].argsort(descending=True, stable=True)
    found: list[int] = candidates[order[:count]].tolist()
    return found


def check_pattern(inputs: int, pattern: tuple[int, int], *, name: str) -> None:
    """Refuse a linear layer whose inputs do not divide into groups.

    Raises:
        ConfigError: If ``inputs`` is no multiple of M.
    """
    keep, group = pattern
    if inputs % group:
        raise ConfigError(
            f"granularity {keep}:{group}: {name} has {inputs} inputs, no multiple of {group}.",
            f"Leave it out (--set ignore={name}) or choose another pattern.",
        )


def pattern_mask(importance: Tensor, pattern: tuple[int, int], *, name: str) -> Tensor:
    """Return which weights are kept so that every group of M consecutive inputs keeps its N most important.

    Raises:
        ConfigError: If the inputs are not a multiple of M.
    """
    keep, group = pattern
    outputs, inputs = importance.shape
    check_pattern(inputs, pattern, name=name)
    order = importance.view(outputs, -1, group).argsort(dim=2, stable=True)
    is_lowest = torch.arange(group, device=importance.device).expand_as(order) < group - keep
    removed = torch.zeros_like(is_lowest).scatter_(2, order, is_lowest)
    return ~removed.view(outputs, inputs)
