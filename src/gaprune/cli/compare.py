"""``gaprune compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune.cli.files import named
from gaprune.cli.options import GROUPS, JsonFlag, QuietFlag, pairs, silence, with_options
from gaprune.cli.output import answer, remark
from gaprune.config.recipe import Recipe
from gaprune.errors import OutputError
from gaprune.util.files import check_file, write_json, write_text

_VISIBLE = (
    "domain", "general", "trust_remote_code", "sparsity", "granularity", "targets", "width", "hidden",
    "depth", "vocabulary", "target", "reconstruct", "tasks",
)  # fmt: skip
"""Options with a flag of their own."""

CHOICE = "Criterion"


@with_options(Recipe, *_VISIBLE)
def compare(
    options: dict[str, Any],
    model: Annotated[
        str | None, typer.Argument(help="Model to prune or compare: a folder, a hub id or demo.", callback=named)
    ] = None,
    criteria: Annotated[
        str,
        typer.Option(help="Criteria with constants, comma-separated; see `gaprune criteria`.", rich_help_panel=CHOICE),
    ] = "",
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model to put beside, with its measured speed. Repeatable.", rich_help_panel=CHOICE),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Number of samples of --triplets triplets to try.", rich_help_panel=CHOICE),
    ] = 1,
    triplets: Annotated[
        str | None,
        typer.Option(help="Number of triplets to draw from each data set; several values.", rich_help_panel=GROUPS[0]),
    ] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also without each term of the criteria.", rich_help_panel=CHOICE)
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="CONSTANT=VALUES", help="Also with these values. Repeatable.", rich_help_panel=CHOICE),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, comparison.md, .json and figures.", rich_help_panel=GROUPS[-1]),
    ] = None,
    figures: Annotated[bool, typer.Option(help="Draw curves into --out.", rich_help_panel=GROUPS[-1])] = True,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune by several criteria, or put other models beside one, and print the table of their quality."""
    from gaprune.evaluation.comparison import COMPARISON_FILE
    from gaprune.evaluation.curves import make_curves
    from gaprune.export.folder import PAGE_FILE
    from gaprune.export.provenance import PROVENANCE_FILE
    from gaprune.pipelines.compare import compare as verb
    from gaprune.pipelines.report import write_report
    from gaprune.report.figures import write_figures
    from gaprune.report.markdown import markdown_table
    from gaprune.report.tables import COMPARISON, plain_table

    names = [name.strip() for name in criteria.split(",") if name.strip()]
    sweeps = {option: values.split(",") for option, values in pairs(sweep, "sweep").items()}
    if out is not None:
        out = out.expanduser()
        if (out / PROVENANCE_FILE).exists():
            raise OutputError(f"{out} holds a model, whose page would be replaced.", "Choose another --out.")
        for name in (COMPARISON_FILE, "comparison.md", PAGE_FILE):
            check_file(out / name, overwrite=True)
    with silence(quiet, as_json):
        result = verb(
            model,
            criteria=names,
            against=against or (),
            seeds=seeds,
            triplets=triplets,
            ablate=ablate,
            sweep=sweeps,
            recipe=options,
        )
    if out is not None:
        write_json(out / COMPARISON_FILE, result.as_dict())
        warnings = "".join(f"\n{line}\n" for line in result.warnings)
        write_text(out / "comparison.md", markdown_table(result.header(), result.rows()) + warnings)
        page = write_report(out)
        if figures:
            write_figures(make_curves(result), out)
        remark(f"Written to {out}; its page is {page}.", quiet=quiet or as_json)
    table = plain_table(COMPARISON, result.header(), result.rows())
    answer(result.as_dict(), table, *result.warnings, quiet=quiet, as_json=as_json)
