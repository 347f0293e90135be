"""``gaprune compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, pairs, silence, with_options
from gaprune.cli.output import say, show, show_json
from gaprune.config.recipe import Recipe
from gaprune.util.files import check_file, write_json, write_text

__all__ = ["compare"]

_VISIBLE = (
    "domain", "general", "trust_remote_code", "sparsity", "granularity", "targets", "ignore", "width", "heads",
    "depth", "vocabulary", "target", "reconstruct", "tasks",
)  # fmt: skip
"""Options with a flag of their own."""


@with_options(Recipe, *_VISIBLE)
def compare(
    options: dict[str, Any],
    criteria: Annotated[
        str,
        typer.Option(
            help="Criteria, comma-separated, with constants (dai:tempering=0.6); see `gaprune criteria`.",
            rich_help_panel="Criterion",
        ),
    ],
    model: Annotated[str | None, typer.Argument(help="Parent model: a folder or a hub id.")] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of calibration samples to repeat the comparison with, each of --triplets triplets.",
            rich_help_panel="Criterion",
        ),
    ] = 1,
    triplets: Annotated[
        str | None,
        typer.Option(
            help="Number of triplets to draw from each data set; several show how much data the criteria need.",
            rich_help_panel="Input",
        ),
    ] = None,
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate", help="Also compare each criterion without each of its terms.", rich_help_panel="Criterion"
        ),
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONSTANT=VALUES",
            help="Also compare each criterion with these values of a constant, comma-separated. Can be repeated.",
            rich_help_panel="Criterion",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write comparison.md, comparison.json and figures to this folder.", rich_help_panel="Output"
        ),
    ] = None,
    figures: Annotated[
        bool,
        typer.Option(
            help="Draw curves over sparsity, triplets and constants into --out (extra plots).",
            rich_help_panel="Output",
        ),
    ] = True,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune by several criteria and print the table of their quality, as the paper's table 1."""
    from gaprune.evaluation.curves import make_curves
    from gaprune.pipelines.compare import compare as verb
    from gaprune.report.figures import require_plots, write_figures
    from gaprune.report.markdown import markdown_table
    from gaprune.report.tables import COMPARISON, plain_table

    names = [name.strip() for name in criteria.split(",") if name.strip()]
    sweeps = {option: values.split(",") for option, values in pairs(sweep, "sweep").items()}
    if out is not None:
        for name in ("comparison.json", "comparison.md"):
            check_file(out / name, overwrite=True)
        if figures:
            require_plots()
    with silence(quiet, as_json):
        result = verb(
            model, criteria=names, seeds=seeds, triplets=triplets, ablate=ablate, sweep=sweeps, recipe=options
        )
    if out is not None:
        write_json(out / "comparison.json", result.as_dict())
        write_text(out / "comparison.md", markdown_table(result.header(), result.rows()))
        if figures:
            write_figures(make_curves(result), out)
        if not (quiet or as_json):
            say(f"Written to {out}.")
    if as_json:
        show_json(result.as_dict())
    elif not quiet:
        show(plain_table(COMPARISON, result.header(), result.rows()))
