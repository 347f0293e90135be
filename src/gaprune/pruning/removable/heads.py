"""Attention heads, in groups that share keys and values."""

from __future__ import annotations

from typing import ClassVar, Literal

from gaprune.pruning.removable.base import register
from gaprune.pruning.removable.units import Units

__all__ = ["Heads"]


@register
class Heads(Units):
    """Attention heads by key/value group."""

    name: ClassVar[str] = "heads"
    option: ClassVar[str] = "heads"
    label: ClassVar[str] = "attention head groups per layer"
    kind: ClassVar[Literal["width", "heads"]] = "heads"

    @property
    def multiple(self) -> int:
        """Every number of heads is allowed."""
        return 1
