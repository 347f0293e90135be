"""The registry of export formats: every module of this folder is imported once, and registers its class."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TypeVar

from gaprune.errors import ConfigError, suggest
from gaprune.export.formats.base import ExportFormat

__all__ = ["available", "format_named", "register"]

_registered: dict[str, type[ExportFormat]] = {}

Kind = TypeVar("Kind", bound=type[ExportFormat])


def register(kind: Kind) -> Kind:
    """Register an :class:`ExportFormat` class under its name; use as a decorator.

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


def available() -> dict[str, type[ExportFormat]]:
    """Return every registered class by its name, in alphabetical order."""
    _import_folder()
    return dict(sorted(_registered.items()))


def format_named(name: str) -> type[ExportFormat]:
    """Return the class registered under ``name``.

    Raises:
        ConfigError: If there is none.
    """
    known = available()
    if name not in known:
        raise ConfigError(f"to: {name!r} is not a format.{suggest(name, known)}", f"Use {', '.join(known)}.")
    return known[name]
