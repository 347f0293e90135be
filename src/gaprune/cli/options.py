"""Command-line options made from the recipe, so that a default or a help text is stated once."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gaprune.config.files import load_recipe
from gaprune.config.options import CommandOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.util.distributed import join_process_group, rank
from gaprune.util.progress import quiet

__all__ = ["JsonFlag", "QuietFlag", "first_speaks", "pairs", "recipe_options", "silence", "with_default"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no tables.")]

_SINGULAR = {
    "columns": "column",
    "general_columns": "general-column",
    "recovery": "recovery",
}
"""Fields that hold a mapping are given one entry at a time."""

_FIRST = ("domain", "general", "sparsity", "out")
"""Fields that most calls name, shown before the others."""

_LAST = ("quiet", "as_json")
"""Parameters of commands that are shown at the end."""

_ALIASES = {"sparsity": ["--sparsities"], "columns": ["--columns"], "general_columns": ["--general-columns"]}


def recipe_options(
    *without: str, of: type[CommandOptions] = Recipe
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for every field of the recipe (or of other options) to a command, but for those named.

    The command receives them as ``options``, a mapping that is the recipe file (``--recipe``) overlaid with what
    was given on the command line.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        order = dict.fromkeys([*(name for name in _FIRST if name in of.model_fields), *of.model_fields])
        fields = {name: of.model_fields[name] for name in order if name not in without}

        @functools.wraps(command)
        def wrapper(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in fields}
            recipe = arguments.pop("recipe")
            for name, value in given.items():
                if _is_mapping(fields[name]):
                    given[name] = pairs(value, name) or None
            options = {} if recipe is None else load_recipe(recipe, of)
            options |= {name: value for name, value in given.items() if value is not None}
            command(options=options, **arguments)

        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
        made = [_parameter(name, field) for name, field in fields.items()]
        recipe_help = "YAML file with any of these options; options given here win."
        made.append(
            inspect.Parameter(
                "recipe",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[Path | None, typer.Option("--recipe", help=recipe_help)],
            )
        )
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        last = [parameter for parameter in own if parameter.name in _LAST]
        signature = inspect.Signature([*(each for each in own if each not in last), *made, *last])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        return wrapper

    return decorate


def pairs(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``["a=1", "b=2"]`` as a mapping.

    Raises:
        ConfigError: If a value has no ``=``.
    """
    found = {}
    for value in values or ():
        key, sign, content = value.partition("=")
        if not sign or not key:
            raise ConfigError(f"{option}: {value!r} is not NAME=VALUE.", f"Write --{_flag(option)} name=value.")
        found[key] = content
    return found


def with_default(field: FieldInfo) -> str:
    """Return what a field is, and its default if it has one that says something."""
    description, default = field.description or "", field.default
    if default is None or default is PydanticUndefined or default is False or default in ((), ""):
        return description
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{description.removesuffix('.')}; default: {shown}."


def first_speaks(is_quiet: bool, is_json: bool) -> tuple[bool, bool]:
    """Join the other processes, where there are any, and return both flags so that the first one speaks for all."""
    join_process_group()
    return (True, False) if rank() else (is_quiet, is_json)


@contextmanager
def silence(is_quiet: bool, is_json: bool) -> Iterator[None]:
    """Hide progress bars where a command was asked to be quiet or to print JSON."""
    with quiet(is_quiet or is_json):
        yield


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flags = [f"--{_flag(name)}", *_ALIASES.get(name, ())]
    if _plain(field) is bool:
        flags = [f"--{_flag(name)}/--no-{_flag(name)}"]
    option = typer.Option(*flags, help=with_default(field), show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_type(field), option]
    )


def _flag(name: str) -> str:
    """Return the option's name."""
    return _SINGULAR.get(name, name.replace("_", "-"))


def _plain(field: FieldInfo) -> Any:
    """Return the field's type without ``None``."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def _is_mapping(field: FieldInfo) -> bool:
    return get_origin(_plain(field)) is dict


def _type(field: FieldInfo) -> Any:
    if _is_mapping(field):
        return list[str] | None
    kind = _plain(field)
    return (kind if kind in (int, float, bool) else str) | None
