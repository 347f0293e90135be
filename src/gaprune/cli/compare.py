"""``gaprune compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, pairs, recipe_options, silence
from gaprune.cli.output import say, show, show_json
from gaprune.evaluation.curves import make_curves
from gaprune.pipelines.compare import compare as verb
from gaprune.report.figures import require_plots, write_figures
from gaprune.report.markdown import markdown_table
from gaprune.report.tables import comparison_table
from gaprune.util.files import check_file, write_json, write_text

__all__ = ["compare"]


@recipe_options("model", "criterion", "scores", "overwrite", "out", "triplets")
def compare(
    options: dict[str, Any],
    criteria: Annotated[
        str, typer.Option(help="Criteria, comma-separated, with constants: dai:tempering=0.6; see `gaprune criteria`.")
    ],
    model: Annotated[str | None, typer.Argument(help="Parent model: a folder or a hub id.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Calibration samples to repeat it with; --triplets says how many each draws.")
    ] = 1,
    triplets: Annotated[
        str | None, typer.Option(help="Draw this many triplets a side; several, comma-separated, show data appetite.")
    ] = None,
    ablate: Annotated[bool, typer.Option(help="Also compare each criterion without each of its terms.")] = False,
    sweep: Annotated[
        list[str] | None, typer.Option(help="CONSTANT=VALUE,VALUE,...: also compare with these; can be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write comparison.md, comparison.json and figures to this folder.")
    ] = None,
    figures: Annotated[
        bool, typer.Option(help="Draw what --out gets lines of: by sparsity, triplets, constant (extra plots).")
    ] = True,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune by several criteria and print the table of their quality, as the paper's table 1."""
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
        show(comparison_table(result))
