"""``gaprune recover``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, silence, with_options
from gaprune.cli.output import answer, opening
from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError

__all__ = ["recover"]

_VISIBLE = (
    "domain", "general", "triplets", "trust_remote_code", "steps", "batch_size", "learning_rate", "general_share",
    "lora", "bf16", "distil", "parent", "resume", "tasks", "out", "overwrite",
)  # fmt: skip
"""Options with a flag of their own."""


@with_options(RecoveryOptions, *_VISIBLE)
def recover(
    options: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help="Model to recover: a folder that GAPrune wrote, or any.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune a pruned model on triplets of its domain; every zero remains zero.

    Example: gaprune recover pruned --domain mine.jsonl --steps 100 --distil --out recovered
    """
    from gaprune.pipelines.recover import recover as verb
    from gaprune.report.sentences import recovery_lines
    from gaprune.report.tables import evaluation_table

    if options.get("out") is None:
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR.")
    quiet, as_json = first_speaks(quiet, as_json)
    with silence(quiet, as_json):
        result = verb(model, recipe=options)
    quality = () if result.evaluation is None else (evaluation_table(result.evaluation),)
    parts = (*recovery_lines(result.record), *quality, opening(options["out"]))
    answer(result.provenance().as_dict(), *parts, quiet=quiet, as_json=as_json)
