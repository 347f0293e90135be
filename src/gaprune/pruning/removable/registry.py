"""The registry of what can be removed: every module of this folder is imported once, and registers its class."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import groupby
from typing import Any, TypeVar

from gaprune.config.recipe import Recipe
from gaprune.pruning.removable.base import Removable

__all__ = ["available", "register", "requested", "stages"]

_registered: dict[str, type[Removable[Any]]] = {}

Kind = TypeVar("Kind", bound=type[Removable[Any]])


def register(kind: Kind) -> Kind:
    """Register a :class:`Removable` class under its name; use as a decorator.

    Raises:
        ValueError: If another class has the name.
    """
    if _registered.get(kind.name, kind) is not kind:
        raise ValueError(f"the name {kind.name!r} belongs to {_registered[kind.name].__qualname__}")
    _registered[kind.name] = kind
    return kind


@cache
def _import_folder() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


def available() -> list[type[Removable[Any]]]:
    """Return every registered class in the order in which things are removed."""
    _import_folder()
    return sorted(_registered.values(), key=lambda kind: (kind.order, kind.name))


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
