"""The registry of export formats: every module of this folder is imported once, and registers its class."""

from __future__ import annotations

from gaprune.errors import ConfigError, suggest
from gaprune.export.formats.base import ExportFormat
from gaprune.util.registry import Registry

_formats = Registry[ExportFormat](__name__.rpartition(".")[0])
register = _formats.register


def available() -> dict[str, type[ExportFormat]]:
    """Return every registered class by its name, in alphabetical order."""
    return {kind.name: kind for kind in sorted(_formats.available(), key=lambda kind: kind.name)}


def format_named(name: str | None) -> type[ExportFormat]:
    """Return the class registered under ``name``.

    Raises:
        ConfigError: If there is none.
    """
    known = available()
    if name is None:
        raise ConfigError("to: no format is named.", f"Use {', '.join(known)}, or --for (reader).")
    if name not in known:
        raise ConfigError(f"to: {name!r} is not a format.{suggest(name, known)}", f"Use {', '.join(known)}.")
    return known[name]
