"""What was cut out of a model, unit by unit, for the result and its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gaprune.config.removal import Unit

__all__ = ["RemovedUnits", "StructuredPruning"]


@dataclass(frozen=True)
class RemovedUnits:
    """One kind of units that went.

    Args:
        kind: ``width``, ``heads``, ``depth`` or ``vocabulary``.
        removed: How many went (of each layer for width and heads).
        total: How many there were.
        kept: Indices that stayed: by name of the reading matrix for width and heads, as ``layers`` for depth.
        found: What the decision rests on, such as the measured effect of each layer.
    """

    kind: Unit
    removed: int
    total: int
    kept: Mapping[str, Sequence[int]] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What reports call them."""
        return {
            "width": "FFN neurons per layer",
            "heads": "attention head groups per layer",
            "depth": "layers",
            "vocabulary": "tokens",
        }[self.kind]

    def __str__(self) -> str:
        """Return a sentence for people."""
        return f"{self.removed:,} of {self.total:,} {self.label}"


@dataclass(frozen=True)
class StructuredPruning:
    """All that went.

    Args:
        cuts: In the order they were made.
        parent: Parameters of the parent.
        selected: Parameters of the parent that were up for removal.
        child: Parameters of the result.
    """

    cuts: tuple[RemovedUnits, ...]
    parent: int
    selected: int
    child: int

    def __str__(self) -> str:
        """Return a sentence for people."""
        return ", ".join(map(str, self.cuts))

    @property
    def removed(self) -> int:
        """Number of parameters that went."""
        return self.parent - self.child
