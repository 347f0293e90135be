"""The registry: names to criteria, open to third parties.

A calibrated criterion has three names: ``obd`` looks at domain data, ``obd-general`` and ``obd-mix`` at general data
and at both. Constants can follow a name: ``dai:tempering=0.6``. Packages add criteria through the entry-point group
``gaprune.criteria`` or :func:`register`.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from gaprune.config.options import explain
from gaprune.criteria.base import Calibrated, Criterion
from gaprune.errors import ConfigError, suggest

Kind = TypeVar("Kind", bound=type[Criterion])
_PACKAGE = __name__.rpartition(".")[0]
_registered: dict[str, type[Criterion]] = {}


def split_name(text: str) -> tuple[str, dict[str, str]]:
    """Return the name of a criterion and the constants that follow it.

    Raises:
        ConfigError: If a part is not ``constant=value``, or a constant is given twice.
    """
    name, *parts = text.split(":")
    options: dict[str, str] = {}
    for part in parts:
        option, sign, value = part.partition("=")
        if not (name and option and sign and value) or option in options:
            fault = f"the constant {option!r} is given twice" if option in options else f"{part!r} is not a constant"
            raise ConfigError(
                f"criterion {text!r}: {fault}.", "Write NAME:CONSTANT=VALUE, such as dai:tempering=0.6, once for each."
            )
        options[option] = value
    return name, options


def with_option(text: str, option: str, value: object) -> str:
    """Return the criterion ``text`` with one constant set to another value, which is written without rounding."""
    name, options = split_name(text)
    options[option] = _written(value)
    return ":".join([name, *(f"{key}={each}" for key, each in options.items())])


def _written(value: object) -> str:
    """Return the value as text that reads as the same value."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def register(name: str) -> Callable[[Kind], Kind]:
    """Register a :class:`Criterion` class under ``name``; use as a decorator.

    Raises:
        TypeError: If the class is not a criterion.
        ValueError: If another class has the name.
    """

    def add(kind: Kind) -> Kind:
        if not (isinstance(kind, type) and issubclass(kind, Criterion)):
            raise TypeError(f"{kind!r} is registered as criterion {name!r} but is not a subclass of Criterion")
        if not kind.__module__.startswith(f"{_PACKAGE}."):
            _import_built_in()  # so that a name of ours cannot be taken before we use it
        if _registered.get(name, kind) is not kind:
            raise ValueError(f"the criterion name {name!r} belongs to {_registered[name].__qualname__}")
        _registered[name] = kind
        return kind

    return add


@cache
def _import_built_in() -> None:
    """Import the modules of this package, which registers the criteria in them."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{_PACKAGE}.{module.name}")


@cache
def _import_announced() -> None:
    """Import the criteria that installed packages announce."""
    for point in entry_points(group="gaprune.criteria"):
        register(point.name)(point.load())


def available() -> dict[str, type[Criterion]]:
    """Return every registered criterion by name, in order of name."""
    _import_built_in()
    _import_announced()
    return dict(sorted(_registered.items()))


def create(name: str, options: Mapping[str, object] | None = None) -> Criterion:
    """Return the criterion called ``name`` with its constants set, by ``options`` or in the name itself.

    Raises:
        ConfigError: If there is none, it does not have such a constant, or two ways set one to different values.
    """
    base, in_name = split_name(name)
    kind, implied = _find(base)
    given = dict(options or {})
    merged = given | in_name | implied
    criterion = _validate(base, kind, merged)
    if any(_validate(base, kind, merged | each) != criterion for each in (given, in_name)):
        raise ConfigError(
            f"criterion {name}: its name and its options set the same constant to different values.",
            "Leave one of the two out.",
        )
    return criterion


def _find(name: str) -> tuple[type[Criterion], dict[str, str]]:
    """Return the class of a name, and the constant that its suffix implies."""
    known = available()
    if name in known:
        return known[name], {}
    stem, _, calibration = name.rpartition("-")
    kind = known.get(stem, Criterion)
    if calibration in ("domain", "general", "mix") and issubclass(kind, Calibrated):
        return kind, {"calibration": calibration}
    raise ConfigError(
        f"Unknown criterion {name!r}.{suggest(name, known)}",
        f"Known: {', '.join(known)}; some take -domain, -general or -mix after their name.",
    )


def _validate(name: str, kind: type[Criterion], options: Mapping[str, object]) -> Criterion:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        hint = suggest(place, kind.model_fields) if first["type"] == "extra_forbidden" else ""
        raise ConfigError(
            f"criterion {name}: {place}: {explain(first)}.{hint}",
            f"Its constants: {', '.join(kind.model_fields) or 'none'}.",
        ) from error
