"""The program: commands put together, errors turned into words and exit codes."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from gaprune.cli import bench, compare, criteria, data, demo, evaluate, export, inspect, prune, recover
from gaprune.errors import GapruneError

__all__ = ["app", "main"]

app = typer.Typer(
    name="gaprune",
    help="Domain-aware pruning of embedding models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    prune.prune,
    recover.recover,
    evaluate.evaluate,
    compare.compare,
    inspect.inspect,
    criteria.criteria,
    demo.demo,
):
    app.command()(command)
for command in (bench.bench, export.export, export.unpack):
    app.command()(command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the program; errors of the input end with their text on stderr and exit code 2."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        app(prog_name="gaprune")
    except GapruneError as error:
        console = Console(stderr=True)
        console.print("error:", style="bold red", end=" ")
        console.print(error.problem, markup=False, highlight=False, soft_wrap=True)
        console.print(f"  → {error.remedy}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
