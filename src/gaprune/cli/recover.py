"""``gaprune recover``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, recipe_options, silence
from gaprune.cli.output import show, show_json
from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError
from gaprune.pipelines.recover import recover as verb
from gaprune.pipelines.recovered import Recovered
from gaprune.report.sentences import recovery_lines
from gaprune.report.tables import evaluation_table

__all__ = ["recover"]


@recipe_options("model", of=RecoveryOptions)
def recover(
    options: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help="Model to recover: a folder that GAPrune wrote, or any.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Retrain a pruned model on triplets of its domain, with every zero held.

    Example: gaprune recover pruned --domain mine.jsonl --steps 100 --distil --out recovered
    """
    if options.get("out") is None:
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR.")
    quiet, as_json = first_speaks(quiet, as_json)
    with silence(quiet, as_json):
        result = verb(model, recipe=options)
    if as_json:
        show_json(result.provenance().as_dict())
    elif not quiet:
        _show(result)


def _show(result: Recovered) -> None:
    for line in recovery_lines(result.record):
        show(line)
    if result.evaluation is not None:
        show(evaluation_table(result.evaluation))
    if result.options.out is not None:
        show(f'Written to {result.options.out}; open it with SentenceTransformer("{result.options.out}").')
