"""``gaprune prune``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gaprune.api import prune_many
from gaprune.cli.options import JsonFlag, QuietFlag, recipe_options, silence
from gaprune.cli.output import say, show, show_json
from gaprune.errors import ConfigError
from gaprune.report import evaluation_table, percent
from gaprune.result import Result

__all__ = ["prune"]

_HONEST = (
    "As saved, zeros make it neither smaller nor faster; they show what the domain does not need. Smaller and faster "
    "are whole units (--granularity width, heads, depth or vocabulary) and int8 (gaprune export --to onnx --int8)."
)


@recipe_options("model")
def prune(
    options: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help="Parent model: a folder or a hub id.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune a model for a domain and write it as an ordinary model folder.

    Example: gaprune prune sentence-transformers/all-MiniLM-L6-v2 --domain mine.jsonl --sparsity 0.5 --out pruned
    """
    if options.get("out") is None and options.get("scores") is None:
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR (or keep --scores FILE).")
    written = []
    with silence(quiet, as_json):
        for result in prune_many(model, recipe=options):
            written.append(result.provenance())
            if not (quiet or as_json):
                _show(result)
    for first in written[:1]:
        if not quiet:
            _tell_unused(options, first["calibration"])
    if as_json:
        show_json(written)


def _tell_unused(options: dict[str, Any], calibration: dict[str, Any]) -> None:
    for kind in ("domain", "general"):
        if options.get(kind) is not None and calibration[kind] is None:
            say(f"Note: this criterion with these constants does not look at {kind} data, so --{kind} is not used.")


def _show(result: Result) -> None:
    size = result.footprint
    show(
        f"{result.recipe.criterion}: {percent(result.sparsity_of_selected)} of the {result.pruning.size:,} selected "
        f"weights are zero, {percent(result.sparsity_of_model)} of the whole model ({size.parameters:,} parameters)."
    )
    if result.evaluation is not None:
        show(evaluation_table(result.evaluation))
    show(_HONEST)
    if result.out is not None:
        show(f'Written to {result.out}; open it with SentenceTransformer("{result.out}").')
