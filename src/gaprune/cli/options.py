"""Command-line options made from the typed options, so that a default or a help text is stated once."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.models import OptionInfo

from gaprune.cli.files import check_files
from gaprune.config.files import load_recipe
from gaprune.config.options import CommandOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.util.progress import quiet

GROUPS = (
    "Input",
    "What to remove",
    "Criterion",
    "Training",
    "Distillation",
    "Reconstruction and recovery",
    "Running",
    "Output",
)
"""Groups of options, in the order of help."""

JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.", rich_help_panel="Output"),
]
QuietFlag = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print neither progress nor tables.", rich_help_panel="Output")
]
Device = Annotated[str | None, typer.Option(help="Torch device; default: chosen by sentence-transformers.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output that GAPrune wrote.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the models.")]


def with_options(
    kind: type[CommandOptions], *visible: str, recipe: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options of ``kind`` to a command: those named as flags of their own, and all by ``--set``.

    The command receives them as ``options``, a mapping: the file that ``--recipe`` names (if there is such a
    flag), overridden by the flags.
    """
    settings = Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help=f"Set any other option; `gaprune options {kind.command}` lists them. Can be repeated.",
            rich_help_panel="Running",
        ),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(recipe: Path | None = None, settings: list[str] | None = None, **arguments: Any) -> None:
            flags = {name: value for name in visible if (value := arguments.pop(name)) is not None}
            stated = {} if recipe is None else load_recipe(recipe, kind)
            options = _overridden(stated, flags, settings or (), kind)
            check_files(kind.build(options))
            command(options=options, **arguments)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(_parameter(name, kind) for name in visible),
            *((_keyword("recipe", _recipe_file(kind)),) if recipe else ()),
            _keyword("settings", settings),
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own if each.name != "options"),
        ]
        signature = inspect.Signature(sorted(parameters, key=_place))
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return wrapper

    return decorate


def _overridden(
    recipe: Mapping[str, Any], flags: Mapping[str, Any], settings: Sequence[str], kind: type[CommandOptions]
) -> dict[str, Any]:
    """Return the options of a recipe, overridden by flags and by settings such as ``recovery.distil=true``."""
    options = {**recipe, **flags}
    given = pairs(settings, "set")
    kind.refuse_unknown({place.partition(".")[0]: "set" for place in given})
    for place, value in given.items():
        name, dot, key = place.partition(".")
        field = kind.model_fields[name]
        if name in flags:
            raise ConfigError(f"{name}: it is given twice, by --{_flag(name)} and by --set.", "Leave one of them out.")
        if is_mapping(field) != bool(dot):
            form = f"{name}.KEY=VALUE" if is_mapping(field) else f"{name}=VALUE"
            raise ConfigError(f"set: {place}={value} does not fit the option {name}.", f"Write --set {form}.")
        options[name] = {**(options.get(name) or {}), key: value} if dot else value
    return options


def pairs(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``["a=1", "b=2"]`` as a mapping.

    Raises:
        ConfigError: If a value has no ``=``, or a name is there twice.
    """
    found: dict[str, str] = {}
    for value in values or ():
        key, sign, content = value.partition("=")
        if not sign or not key:
            raise ConfigError(f"{option}: {value!r} is not NAME=VALUE.", f"Write --{_flag(option)} name=value.")
        if key in found:
            raise ConfigError(f"{option}: {key} is given twice.", "Leave one of them out.")
        found[key] = content
    return found


def with_default(field: FieldInfo) -> str:
    """Return the description of a field, with its default if it has one that says something."""
    description, default = field.description or "", field.default
    if default is None or default is PydanticUndefined or default is False or default in ((), ""):
        return description
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{description.removesuffix('.')}; default: {shown}."


def first_speaks(is_quiet: bool, is_json: bool) -> tuple[bool, bool]:
    """Join the other processes, if there are any, and return both flags so that the first one speaks for all."""
    from gaprune.util.distributed import join_process_group, rank

    join_process_group()
    return (True, False) if rank() else (is_quiet, is_json)


@contextmanager
def silence(is_quiet: bool, is_json: bool) -> Iterator[None]:
    """Hide progress if a command was asked to be quiet or to print JSON."""
    with quiet(is_quiet or is_json):
        yield


def is_mapping(field: FieldInfo) -> bool:
    """Return whether an option is a mapping, whose keys are set one at a time."""
    return get_origin(_plain(field)) is dict


def _parameter(name: str, kind: type[CommandOptions]) -> inspect.Parameter:
    """Return the flag of an option; a yes-or-no option that is undecided by default has a negative flag too."""
    field, flag = kind.model_fields[name], f"--{_flag(name)}"
    plain = _plain(field)
    flags = f"{flag}/--no-{_flag(name)}" if plain is bool and field.default is None else flag
    option = typer.Option(flags, help=with_default(field), show_default=False, rich_help_panel=kind.group_of(name))
    return _keyword(name, Annotated[(plain if plain in (int, float, bool) else str) | None, option])


def _recipe_file(kind: type[CommandOptions]) -> Any:
    """Return the flag ``--recipe``; a pruning run has a recipe that comes with GAPrune."""
    packaged = ", or paper: the method of the paper" if kind is Recipe else ""
    said = f"YAML file of options{packaged}; the command line overrides it."
    return Annotated[Path | None, typer.Option("--recipe", help=said, rich_help_panel="Input")]


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _place(parameter: inspect.Parameter) -> int:
    """Return where help shows a parameter: arguments first, then the groups of options."""
    (information,) = parameter.annotation.__metadata__
    panel = information.rich_help_panel
    return GROUPS.index(panel) if isinstance(information, OptionInfo) and panel in GROUPS else -1


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _plain(field: FieldInfo) -> Any:
    """Return the field's type without ``None``."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind
