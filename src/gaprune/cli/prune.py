"""``gaprune prune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, silence, with_options
from gaprune.cli.output import say, show, show_json
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError

if TYPE_CHECKING:
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import Calibration
    from gaprune.pipelines.result import Result

__all__ = ["prune"]

_VISIBLE = (
    "domain", "general", "triplets", "trust_remote_code", "sparsity", "granularity", "targets", "ignore", "width",
    "heads", "depth", "vocabulary", "target", "criterion", "reconstruct", "recover", "checkpoint", "resume",
    "tasks", "out", "overwrite",
)  # fmt: skip
"""Options with a flag of their own."""


@with_options(Recipe, *_VISIBLE)
def prune(
    options: dict[str, Any],
    model: Annotated[str | None, typer.Argument(help="Parent model: a folder or a hub id.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Prune a model for a domain and write it as an ordinary model folder.

    Example: gaprune prune sentence-transformers/all-MiniLM-L6-v2 --domain mine.jsonl --sparsity 0.5 --out pruned
    """
    from gaprune.pipelines.prune import prune_many

    if options.get("out") is None and (options.get("scores") is None or options.get("recover")):
        raise ConfigError(
            "out: the result would be lost.", "Name a folder: --out DIR (or keep the scores: --set scores=FILE)."
        )
    quiet, as_json = first_speaks(quiet, as_json)
    kept = options.get("scores")
    is_reused = kept is not None and Path(kept).exists()
    written = []
    with silence(quiet, as_json):
        for result in prune_many(model, recipe=options):
            written.append(result.provenance())
            if not (quiet or as_json):
                if len(written) == 1:
                    _show_data(written[0].calibration, kept if is_reused else None)
                _show(result, written[-1])
            del result  # its model goes before the next is made
    for first in written[:1]:
        if not quiet:
            _tell_unused(options, first)
    if as_json:
        show_json([each.as_dict() for each in written])


def _tell_unused(options: dict[str, Any], provenance: Provenance) -> None:
    calibration = provenance.calibration
    trained = [recovery.data for recovery in provenance.recoveries]
    for kind in ("domain", "general"):
        if options.get(kind) is not None and not any(getattr(used, kind) for used in (calibration, *trained)):
            say(f"Note: this criterion with these constants does not use {kind} data, so --{kind} has no effect.")
        data = getattr(calibration, kind)
        if options.get("mine_negatives") and data is not None and data.with_own_negatives == data.triplets:
            say(f"Note: every {kind} triplet has negatives of its own, so none were mined.")


def _show_data(calibration: Calibration, reused: str | None) -> None:
    from gaprune.report.sentences import negatives_text

    for kind, data in (("domain", calibration.domain), ("general", calibration.general)):
        if data is not None:
            show(f"{kind}: {data.triplets:,} triplets of {data.name}: {negatives_text(data)}.")
    if reused is not None:
        show(f"The importances were read from {reused}.")


def _show(result: Result, provenance: Provenance) -> None:
    from gaprune.export.records import Unstructured
    from gaprune.report.sentences import ZEROS, outcome_lines
    from gaprune.report.tables import evaluation_table

    show(*outcome_lines(provenance))
    if result.evaluation is not None:
        show(evaluation_table(result.evaluation))
    if isinstance(provenance.method.pruning, Unstructured):
        show(ZEROS)
    if result.out is not None:
        show(f'Written to {result.out}; open it with SentenceTransformer("{result.out}").')
