"""What all options have in common: how values are written, how layers of options merge, how errors are reported."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from gaprune.errors import ConfigError, suggest

ENCODING_BATCH_SIZE = 64
"""Texts encoded at a time in an evaluation, by default."""

_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}

_COMMA = re.compile(r",(?![^{]*})")
"""A comma between words, not one within the braces of a regular expression."""


def _listed(value: object) -> object:
    """Accept ``"a,b"`` and a single value as a list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in _COMMA.split(value) if part.strip())
    return (value,) if isinstance(value, Real) else value


def _size(value: object) -> object:
    """Refuse words after a size, which :class:`ByteSize` would ignore."""
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+(\.\d+)?\s*\w*\s*", value):
        raise ValueError(f"{value!r} is not a size; write 8GB or 512MiB")
    return value


def _number(value: object) -> object:
    """Accept ``"20M"``, ``"500k"`` and ``"1.5B"`` as a whole number, and refuse other letters."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMbB]?)\s*", value)):
        number = float(found[1]) * _MULTIPLES[found[2].lower()]
        return round(number) if math.isfinite(number) else number
    if isinstance(value, str) and re.search("[^\\W\\d_]", value):
        raise ValueError(f"{value!r} is not a number; write 20000, 20k or 20M")
    return value


def _fraction(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{value:g} is not between 0 and 1 (both excluded); 0.5 removes half")
    return value


Number = Annotated[int, BeforeValidator(_number)]
Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Values = Annotated[tuple[float, ...], BeforeValidator(_listed)]
Fractions = Annotated[tuple[Annotated[float, AfterValidator(_fraction)], ...], BeforeValidator(_listed)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_listed)]
Size = Annotated[ByteSize, BeforeValidator(_size), Field(gt=0)]


def _expanded(value: Any) -> Any:
    """Return a path as a text; ``~`` at its beginning is the user's folder, as in a shell."""
    return str(Path(value).expanduser()) if isinstance(value, Path) or str(value).startswith("~") else value


Source = Annotated[str, BeforeValidator(_expanded)]


class Options(BaseModel):
    """Base of all options: immutable, unknown keys refused.

    A subclass names the group under which help shows the fields that it adds.
    """

    group: ClassVar[str] = "Running"

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_switches(cls, given: Any) -> Any:
        """Refuse ``true`` and ``false`` for numbers, which would be 1 and 0."""
        for option, value in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(option)
            if isinstance(value, bool) and field and bool not in (field.annotation, *get_args(field.annotation)):
                raise ValueError(f"{option}: {str(value).lower()} is no value of this option, which is no switch")
        return given

    def differs(self, option: str) -> bool:
        """Return whether an option differs from its default, so that a recipe written out whole means the same."""
        return bool(getattr(self, option) != type(self).model_fields[option].get_default(call_default_factory=True))

    def gives(self, option: str) -> bool:
        """Return whether an option was given, if only its default, so that none is ignored without a word.

        A recipe written out whole gives none of its defaults.
        """
        usual = {name for name, field in type(self).model_fields.items() if field.default is not None}
        is_whole = usual <= self.model_fields_set
        return self.differs(option) or (option in self.model_fields_set and not is_whole)


class OutputOptions(Options):
    """What is made of the result."""

    group: ClassVar[str] = "Output"

    tasks: Source | None = Field(None, description="Evaluate result and parent on this folder of tasks.")
    out: Source | None = Field(
        None, description="Write the model to this folder; several results go to folders inside it."
    )
    overwrite: bool = Field(False, description="Replace the model in an output folder that exists.")


class CommandOptions(Options):
    """All options of a command, built from layers."""

    command: ClassVar[str]
    sections: ClassVar[Mapping[str, type[CommandOptions]]] = {}
    """Options that are mappings of the options of another command."""

    @classmethod
    def group_of(cls, option: str) -> str:
        """Return the group of an option: that of the class that adds it."""
        kinds = (kind for kind in cls.__mro__ if issubclass(kind, Options))
        return next(kind.group for kind in kinds if option in vars(kind).get("__annotations__", ()))

    @classmethod
    def known(cls) -> str:
        """Return where all options of this command are listed."""
        return f"`gaprune options {cls.command}` lists every option, with the names that recipes and Python use."

    @classmethod
    def build(cls, *layers: Mapping[str, Any]) -> Self:
        """Build the options from layers of options; later layers win, and ``None`` means not given.

        Raises:
            ConfigError: If an option is unknown or its value is not valid; the error names the option.
        """
        merged = {key: value for layer in layers for key, value in layer.items() if value is not None}
        cls.refuse_unknown({key: "" for layer in layers for key in layer})
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            problems = list(dict.fromkeys(f"{_place(each)}{explain(each)}.{_near(each)}" for each in error.errors()))
            raise ConfigError(" ".join(problems), cls._meanings(problems) or cls.known()) from error

    @classmethod
    def _meanings(cls, problems: Sequence[str]) -> str:
        """Return what the options are that the problems begin with; nothing if one begins otherwise."""
        names = dict.fromkeys(problem.partition(":")[0].partition(".")[0] for problem in problems)
        if not names.keys() <= cls.model_fields.keys():
            return ""
        return " ".join(f"The option {name}: {cls.model_fields[name].description}" for name in names)

    @classmethod
    def refuse_unknown(cls, names: Mapping[str, str]) -> None:
        """Refuse the names that are no options, all in one error; each has its place, or none.

        Raises:
            ConfigError: If there are any.
        """
        problems = [
            f"{f'{place}: unknown' if place else 'Unknown'} option {name!r}.{cls._elsewhere(name)}"
            for name, place in names.items()
            if name not in cls.model_fields
        ]
        if problems:
            raise ConfigError(" ".join(problems), cls.known())

    @classmethod
    def _elsewhere(cls, name: str) -> str:
        """Return which other commands have an unknown option, or the near names of this one's."""
        having = sorted(
            f"gaprune {each.command}" for each in CommandOptions.__subclasses__() if name in each.model_fields
        )
        return f" It belongs to {' and '.join(having)}." if having else suggest(name, cls.model_fields)


def _place(error: ErrorDetails) -> str:
    """Return the option that an error is about, and a colon; nothing if it is about several."""
    place = ".".join(part for part in error["loc"] if isinstance(part, str))
    return f"{place}: " if place else ""


def _near(error: ErrorDetails) -> str:
    """Return the nearest of the values that are possible, if there are only a few."""
    if error["type"] != "literal_error":
        return ""
    return suggest(str(error["input"]), re.findall("'(.*?)'", error["ctx"]["expected"]))


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "dict": "a mapping of names to values",
    "byte": "a size such as 8GB or 512MiB",
}
"""What a value should have been, by the first word of pydantic's name of the error."""


def explain(error: ErrorDetails) -> str:
    """Return what pydantic finds wrong with a value, as the end of a sentence without its full stop."""
    value = error["input"]
    wanted = _KINDS.get(error["type"].partition("_")[0])
    if wanted is None:
        return error["msg"].removeprefix("Value error, ").replace("Input", repr(value), 1)
    share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return f"{value!r} is not {wanted}" + (f"; write {float(share[1]) / 100:g} for {share[1]} %" if share else "")
