"""``gaprune options``: every option of every command."""

from __future__ import annotations

import inspect
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import ByteSize
from pydantic_core import to_jsonable_python
from rich.table import Table
from typer.models import OptionInfo

from gaprune.cli.commands import COMMANDS
from gaprune.cli.options import GROUPS, JsonFlag, with_default
from gaprune.cli.output import show, show_json
from gaprune.config.data import DataCheckOptions, DataSampleOptions, ExportOptions
from gaprune.config.options import CommandOptions
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import ConfigError, suggest

_TYPED: dict[str, type[CommandOptions]] = {
    "shrink": ShrinkOptions,
    "prune": Recipe,
    "compare": Recipe,
    "recover": RecoveryOptions,
    "export": ExportOptions,
    "data check": DataCheckOptions,
    "data sample": DataSampleOptions,
}
"""Commands whose options ``--set`` can give, and for most a recipe can hold."""

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", ByteSize: "size"}


def options(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Command or group, such as prune, data or data check; default: all of them."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List every option of a command, with its type, default and meaning.

    Options without a flag are given by --set NAME=VALUE, in a recipe file, or as arguments in Python.
    """
    asked = " ".join(command or ())
    rows = {name: rows_of(name) for name in COMMANDS if not asked or name == asked or name.startswith(f"{asked} ")}
    if not rows:
        raise ConfigError(f"Unknown command {asked!r}.{suggest(asked, COMMANDS)}", f"Known: {', '.join(COMMANDS)}.")
    if as_json:
        show_json(rows.get(asked, rows))
        return
    for name, listed in rows.items():
        table = Table(title=f"gaprune {name}", title_justify="left", title_style="bold")
        for column in ("group", "name", "flag", "type", "meaning"):
            table.add_column(column)
        for row in listed:
            table.add_row(row["group"], row["name"], row["flag"] or "--set", row["type"], row["help"])
        show(table)


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return what there is to say of every option of a command, by group."""
    rows = []
    kind = _TYPED.get(name)
    parameters = {
        each.name: (information, each)
        for each in inspect.signature(COMMANDS[name], eval_str=True).parameters.values()
        for information in each.annotation.__metadata__
        if isinstance(information, OptionInfo)
    }
    for option, (information, parameter) in parameters.items():
        field = None if kind is None else kind.model_fields.get(option)
        row = _own(option, parameter.annotation, parameter.default, information)
        rows.append(row if field is None or kind is None else _field(option, kind) | {"flag": row["flag"]})
    if kind is not None:
        rows += [_field(each, kind) for each in kind.model_fields if each not in parameters and each != "model"]
    return sorted(rows, key=lambda row: GROUPS.index(row["group"]) if row["group"] in GROUPS else -1)


def _own(name: str, annotation: Any, default: object, information: OptionInfo) -> dict[str, Any]:
    """Return a row about an option that the command itself declares."""
    stated = [each for each in (information.default, *(information.param_decls or ())) if str(each).startswith("--")]
    flag = str(stated[0]).partition("/")[0] if stated else f"--{name.replace('_', '-')}"
    return {
        "name": flag.removeprefix("--").replace("-", "_"),
        "flag": flag,
        "group": information.rich_help_panel or "Options",
        "type": _type(annotation),
        "default": None if default is inspect.Parameter.empty else to_jsonable_python(default, fallback=str),
        "help": information.help or "",
    }


def _field(name: str, kind: type[CommandOptions]) -> dict[str, Any]:
    """Return a row about an option of a recipe, without a flag."""
    field = kind.model_fields[name]
    return {
        "name": name,
        "flag": None,
        "group": kind.group_of(name),
        "type": _type(field.annotation),
        "default": to_jsonable_python(field.get_default(call_default_factory=True), fallback=str),
        "help": with_default(field),
    }


def _type(annotation: Any) -> str:
    """Return a type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin in (Union, types.UnionType):
        return _type(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin is tuple:
        return f"list of {_type(parts[0])}s"
    if origin is dict:
        return "mapping"
    return _NAMES.get(annotation, "text")
