"""What all options have in common: how they are written, built from layers, and refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gaprune.errors import ConfigError, suggest

__all__ = ["ENCODING_BATCH_SIZE", "CommandOptions", "Fractions", "Options", "Source", "Words", "explain"]

ENCODING_BATCH_SIZE = 64
"""Texts encoded at a time in an evaluation where nothing else is asked for."""

_COMMA = re.compile(r",(?![^{]*})")
"""A comma between words, not one within the braces of a regular expression."""


def _listed(value: object) -> object:
    """Accept ``"a,b"`` and a lone value where a list is meant."""
    if isinstance(value, str):
        return tuple(part.strip() for part in _COMMA.split(value) if part.strip())
    return (value,) if isinstance(value, int | float) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Fractions = Annotated[tuple[float, ...], BeforeValidator(_listed)]
Source = Annotated[str, BeforeValidator(_text)]


class Options(BaseModel):
    """Base of all options: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CommandOptions(Options):
    """All options of a command, built from layers."""

    command: ClassVar[str]

    @classmethod
    def known(cls) -> str:
        """Return where all options of this kind are told."""
        return f"`gaprune {cls.command} --help` lists every option; a recipe uses the same names with underscores."

    @classmethod
    def build(cls, *layers: Mapping[str, Any]) -> Self:
        """Build the options from layers of options, later ones winning; ``None`` means not given.

        Raises:
            ConfigError: If a key is unknown or a value makes no sense; it names the option.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            for key, value in layer.items():
                if key not in cls.model_fields:
                    raise ConfigError(f"Unknown option {key!r}.{suggest(key, cls.model_fields)}", cls.known())
                if value is not None:
                    merged[key] = value
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(part for part in first["loc"] if isinstance(part, str))
            raise ConfigError(f"{place + ': ' if place else ''}{explain(first)}.", cls.known()) from error


_NO = {
    "int": "no whole number",
    "float": "no number",
    "finite": "no finite number",
    "bool": "neither true nor false",
    "string": "no text",
    "tuple": "no list",
    "dict": "no mapping of names to values",
}
"""What a value is not, by the first word of pydantic's name of the error."""


def explain(error: ErrorDetails) -> str:
    """Return what pydantic finds wrong with a value in our words, without a full stop."""
    value = error["input"]
    wrong = _NO.get(error["type"].partition("_")[0])
    if wrong is None:
        return error["msg"].removeprefix("Value error, ").replace("Input", repr(value), 1)
    share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return f"{value!r} is {wrong}" + (f"; write {float(share[1]) / 100:g} for {share[1]} %" if share else "")
