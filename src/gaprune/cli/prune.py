"""``gaprune prune``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprune.cli.files import named
from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, silence, with_options
from gaprune.cli.output import opening, remark, show, show_json
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gaprune.export.provenance import Provenance
    from gaprune.pipelines.result import Result

_VISIBLE = (
    "domain", "general", "triplets", "trust_remote_code", "sparsity", "granularity", "targets", "width",
    "hidden", "depth", "vocabulary", "target", "criterion", "scores", "reconstruct", "recover", "checkpoint", "resume",
    "tasks", "out", "overwrite",
)  # fmt: skip
"""Options with a flag of their own."""


@with_options(Recipe, *_VISIBLE)
def prune(
    options: dict[str, Any],
    model: Annotated[
        str | None, typer.Argument(help="Parent model: a folder, a hub id or demo.", callback=named)
    ] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune a model for a domain and write it as an ordinary model folder.

    Example: gaprune prune sentence-transformers/all-MiniLM-L6-v2 --domain mine.jsonl --width 0.5 --out pruned
    """
    from gaprune.pipelines.prune import prune_many
    from gaprune.report.sentences import data_lines, unused_lines

    if options.get("out") is None and (options.get("scores") is None or options.get("recover")):
        raise ConfigError(
            "out: the result would be lost.", "Name a folder: --out DIR (or keep the scores: --scores FILE)."
        )
    quiet, as_json = first_speaks(quiet, as_json)
    kept, found = options.get("scores"), []
    reused = [f"The importances were read from {kept}."] if kept is not None and Path(kept).exists() else []
    with silence(quiet, as_json):
        for result in prune_many(model, recipe=options):
            found.append(result.provenance())
            if not (quiet or as_json):
                show(
                    *(() if found[1:] else (*data_lines(found[0].calibration), *reused)), *_outcome(result, found[-1])
                )
            del result  # its model goes before the next is made
    named = {kind for kind in ("domain", "general") if options.get(kind) is not None}
    mines = bool(int(options.get("mine_negatives") or 0))
    for line in unused_lines(found[0], named, mines=mines) if found else ():
        remark(line, quiet=quiet)
    if as_json:
        show_json([each.as_dict() for each in found])


def _outcome(result: Result, provenance: Provenance) -> Iterator[RenderableType]:
    from gaprune.export.records import Unstructured
    from gaprune.report.sentences import ZEROS, leak_lines, outcome_lines
    from gaprune.report.tables import evaluation_parts

    yield from outcome_lines(provenance)
    if result.evaluation is not None:
        yield from evaluation_parts(result.evaluation, provenance.parent.name)
    yield from leak_lines(provenance)
    if isinstance(provenance.method.pruning, Unstructured):
        yield ZEROS
    if result.out is not None:
        yield opening(result.out)
