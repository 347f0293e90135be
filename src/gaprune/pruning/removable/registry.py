"""The registry of what can be removed: every module of this folder is imported once, and registers its class."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from gaprune.config.recipe import Recipe
from gaprune.pruning.removable.base import Removable
from gaprune.util.registry import Registry

_removables = Registry[Removable[Any]](__name__.rpartition(".")[0])
register = _removables.register


def available() -> list[type[Removable[Any]]]:
    """Return every registered class in the order in which things are removed."""
    return sorted(_removables.available(), key=lambda kind: (kind.order, kind.name))


def requested(recipe: Recipe) -> list[Removable[Any]]:
    """Return what a recipe asks to remove, in order: structures, or else single weights.

    Raises:
        GapruneError: One of its kinds if an option cannot be used.
    """
    asked = [kind for kind in available() if kind.is_asked(recipe)]
    structures = [kind for kind in asked if kind.is_structured]
    return [kind(recipe) for kind in structures or asked]


def stages(removables: Sequence[Removable[Any]]) -> list[list[Removable[Any]]]:
    """Return the same in groups that are chosen from one model and one measurement."""
    return [list(stage) for _, stage in groupby(removables, key=lambda each: each.order)]
