"""``gaprune compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune import compare as verb
from gaprune.cli.options import JsonFlag, QuietFlag, recipe_options, silence
from gaprune.cli.output import say, show, show_json
from gaprune.files import check_file, write_json, write_text
from gaprune.report import comparison_table

__all__ = ["compare"]


@recipe_options("model", "criterion", "criterion_options", "scores", "scores_dtype", "overwrite", "out")
def compare(
    options: dict[str, Any],
    criteria: Annotated[str, typer.Option(help="Criteria, comma-separated; `gaprune criteria` lists them.")],
    model: Annotated[str | None, typer.Argument(help="Parent model: a folder or a hub id.")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Calibration samples to repeat it with; --triplets says how many each draws.")
    ] = 1,
    out: Annotated[Path | None, typer.Option(help="Write comparison.md and comparison.json to this folder.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune by several criteria and print the table of their quality, as the paper's table 1."""
    names = [name.strip() for name in criteria.split(",") if name.strip()]
    if out is not None:
        for name in ("comparison.json", "comparison.md"):
            check_file(out / name, overwrite=True)
    with silence(quiet, as_json):
        result = verb(model, criteria=names, seeds=seeds, recipe=options)
    if out is not None:
        write_json(out / "comparison.json", result.as_dict())
        write_text(out / "comparison.md", result.to_markdown())
        if not (quiet or as_json):
            say(f"Written to {out}.")
    if as_json:
        show_json(result.as_dict())
    elif not quiet:
        show(comparison_table(result))
