"""N:M patterns: N of every M consecutive inputs stay."""

from __future__ import annotations

import torch
from torch import Tensor

from gaprune.errors import ConfigError


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
    """Return which weights stay so that every group of M consecutive inputs keeps its N most important.

    Raises:
        ConfigError: If the inputs are not a multiple of M.
    """
    keep, group = pattern
    outputs, inputs = importance.shape
    check_pattern(inputs, pattern, name=name)
    order = importance.view(outputs, -1, group).argsort(dim=2, stable=True)
    goes = torch.arange(group, device=importance.device).expand_as(order) < group - keep
    removed = torch.zeros_like(goes).scatter_(2, order, goes)
    return ~removed.view(outputs, inputs)
