"""``gaprune recover``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gaprune.cli.files import named
from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, silence, with_options
from gaprune.cli.output import answer, opening
from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError

_VISIBLE = (
    "domain", "general", "texts", "trust_remote_code", "tokens", "minutes", "steps", "batch_size", "learning_rate",
    "bf16", "distil", "parent", "resume", "tasks", "out", "overwrite",
)  # fmt: skip
"""Options with a flag of their own."""


@with_options(RecoveryOptions, *_VISIBLE)
def recover(
    options: dict[str, Any],
    model: Annotated[
        str | None, typer.Argument(help="Model to recover: a folder that GAPrune wrote, or any.", callback=named)
    ] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Distil a pruned model on texts, or fine-tune it on triplets, or both; every zero remains zero.

    Example: gaprune recover pruned --texts documents --tokens 20M --domain mine.jsonl --out recovered
    """
    from gaprune.pipelines.recover import recover as verb
    from gaprune.report.sentences import leak_lines, recovery_lines
    from gaprune.report.tables import evaluation_parts

    if options.get("out") is None:
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR.")
    quiet, as_json = first_speaks(quiet, as_json)
    with silence(quiet, as_json):
        result = verb(model, recipe=options)
    lines = [line for record in result.records for line in recovery_lines(record)]
    made = result.provenance()
    beside = made.beside or made.parent.name
    quality = () if result.evaluation is None else evaluation_parts(result.evaluation, beside)
    parts = (*lines, *quality, *leak_lines(made), opening(options["out"]))
    answer(made.as_dict(), *parts, quiet=quiet, as_json=as_json)
