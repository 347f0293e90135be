"""The registry: names to criteria, open to third parties.

A calibrated criterion answers to three names: ``obd`` looks at domain data, ``obd-general`` and ``obd-mix`` at the
other two. Constants can stand after a name: ``dai:tempering=0.6``. Packages add their own through the entry-point
group ``gaprune.criteria`` or :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from pydantic import ValidationError

from gaprune.config.options import explain
from gaprune.criteria.base import Calibrated, Criterion
from gaprune.criteria.names import split_name
from gaprune.errors import ConfigError, suggest

__all__ = ["available", "create", "register"]

Kind = TypeVar("Kind", bound=type[Criterion])

_registered: dict[str, type[Criterion]] = {}


def register(name: str) -> Callable[[Kind], Kind]:
    """Register a :class:`Criterion` class under ``name``; use as a decorator.

    Raises:
        TypeError: If the class is no criterion.
        ValueError: If another class has the name.
    """

    def add(kind: Kind) -> Kind:
        if not (isinstance(kind, type) and issubclass(kind, Criterion)):
            raise TypeError(f"{kind!r} is registered as criterion {name!r} but is no subclass of Criterion")
        if _registered.get(name, kind) is not kind:
            raise ValueError(f"the criterion name {name!r} belongs to {_registered[name].__qualname__}")
        _registered[name] = kind
        return kind

    return add


@cache
def _load_announced() -> None:
    """Import the criteria that installed packages announce."""
    for point in entry_points(group="gaprune.criteria"):
        register(point.name)(point.load())


def available() -> dict[str, type[Criterion]]:
    """Return every registered criterion by name, in order of name."""
    _load_announced()
    return dict(sorted(_registered.items()))


def create(name: str, options: Mapping[str, object] | None = None) -> Criterion:
    """Return the criterion called ``name`` with its constants set, by ``options`` or in the name itself.

    Raises:
        ConfigError: If there is none, it has no such constant, or the two ways set the same one.
    """
    known = available()
    asked, (name, own) = name, split_name(name)
    given = dict(options or {})
    options = given | own
    kind = known.get(name)
    base, _, calibration = name.rpartition("-")
    if kind is None and calibration in ("domain", "general", "mix"):
        kind = known.get(base)
        if kind is not None and not issubclass(kind, Calibrated):
            kind = None
        if options.setdefault("calibration", calibration) != calibration:
            raise ConfigError(
                f"criterion {name}: calibration: {options['calibration']!r} contradicts the name.",
                "Leave one of the two out.",
            )
    if kind is None:
        raise ConfigError(
            f"Unknown criterion {name!r}.{suggest(name, known)}",
            f"Known: {', '.join(known)}; some take -domain, -general or -mix after their name.",
        )
    try:
        made = kind.model_validate(options)
        if own and kind.model_validate(options | given) != made:
            raise ConfigError(
                f"criterion {asked}: its name and its options set the same constant to different values.",
                "Leave one of the two out.",
            )
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        hint = suggest(place, kind.model_fields) if first["type"] == "extra_forbidden" else ""
        raise ConfigError(
            f"criterion {name}: {place}: {explain(first)}.{hint}",
            f"Its constants: {', '.join(kind.model_fields) or 'none'}.",
        ) from error
    return made
