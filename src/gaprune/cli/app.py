"""The program: commands put together, errors turned into words and exit codes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from gaprune.cli.commands import COMMANDS
from gaprune.cli.listing import options
from gaprune.cli.usage import explain
from gaprune.errors import GapruneError
from gaprune.util.progress import say


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that says, if it is interrupted, how the run continues, and ends with exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except KeyboardInterrupt as interrupt:
            say(" ".join(["Interrupted.", *getattr(interrupt, "__notes__", ())]))
            raise typer.Exit(130) from interrupt

    return run


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What is wrong with the words of a command line; typer has no public name for it."""

app = typer.Typer(
    name="gaprune", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, suggest_commands=False
)
data = typer.Typer(help="Check, sample and make calibration triplets.", no_args_is_help=True, suggest_commands=False)
for name, function in COMMANDS.items():
    group, _, own = name.rpartition(" ")
    (data if group else app).command(name=own)(_interruptible(function))
app.command()(options)
app.add_typer(data, name="data")


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        sys.stdout.write(f"gaprune {version('gaprune')}\n")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Domain-aware pruning of embedding models."""


def main() -> None:
    """Run the program; errors of the input end with their text on stderr and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own would run across ours
    try:
        code = app(prog_name="gaprune", standalone_mode=False)
    except GapruneError as error:
        _refuse(error)
    except _UsageError as error:
        if str(error):  # empty where help was printed because no command was named
            _refuse(explain(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    if code:
        sys.exit(code)


def _refuse(error: GapruneError) -> NoReturn:
    console = Console(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.print(error.problem, markup=False, highlight=False, soft_wrap=True)
    console.print(f"  → {error.remedy}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)
