"""``gaprune prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, first_speaks, recipe_options, silence
from gaprune.cli.output import recovery_lines, say, show, show_json
from gaprune.errors import ConfigError
from gaprune.pipelines.prune import prune_many
from gaprune.pipelines.result import Result
from gaprune.report.reconstruction import degradation_text
from gaprune.report.tables import evaluation_table
from gaprune.report.targets import target_text

__all__ = ["prune"]

_HONEST = (
    "As saved, zeros make it neither smaller nor faster; they show what the domain does not need. Smaller and faster "
    "are whole units (--width, --heads, --depth, --vocabulary) and int8 (gaprune export --to onnx --int8)."
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
    if options.get("out") is None and (options.get("scores") is None or options.get("recover")):
        raise ConfigError("out: the result would be lost.", "Name a folder: --out DIR (or keep --scores FILE).")
    quiet, as_json = first_speaks(quiet, as_json)
    kept = options.get("scores")
    is_reused = kept is not None and Path(kept).exists()
    written = []
    with silence(quiet, as_json):
        for result in prune_many(model, recipe=options):
            written.append(result.provenance())
            if not (quiet or as_json):
                if len(written) == 1:
                    _show_data(written[0]["calibration"], kept if is_reused else None)
                _show(result)
            del result  # its model goes before the next is made
    for first in written[:1]:
        if not quiet:
            _tell_unused(options, first)
    if as_json:
        show_json(written)


def _tell_unused(options: dict[str, Any], provenance: dict[str, Any]) -> None:
    calibration = provenance["calibration"]
    trained = [recovery["data"] for recovery in provenance.get("recovery", ())]
    for kind in ("domain", "general"):
        if options.get(kind) is not None and not any(used[kind] for used in (calibration, *trained)):
            say(f"Note: this criterion with these constants does not look at {kind} data, so --{kind} is not used.")
        data = calibration[kind]
        if options.get("mine_negatives") and data is not None and data["with_own_negatives"] == data["triplets"]:
            say(f"Note: every {kind} triplet has negatives of its own, so none were mined.")


def _show_data(calibration: dict[str, Any], reused: str | None) -> None:
    for kind, data in calibration.items():
        if data is not None:
            own, count = data["with_own_negatives"], data["triplets"]
            others = f"{data['mined_negatives_each']} mined negatives each" if data["mined_negatives_each"] else "none"
            without = "" if own == count else f", the others {others}"
            show(f"{kind}: {count:,} triplets of {data['name']}, {own:,} with negatives of their own{without}.")
    if reused is not None:
        show(f"Scores kept in {reused} were used again.")


def _show(result: Result) -> None:
    show(f"{result.recipe.criterion}: {result.summary}.")
    reconstruct = result.origin["method"]["reconstruct"]
    if reconstruct is not None:
        outcome = "kept" if reconstruct["kept"] else "left out, as it lost"
        show(f"Repair was {outcome}; {degradation_text(reconstruct)}.")
    for recovery in result.recoveries:
        for line in recovery_lines(recovery):
            show(line)
    chosen = result.origin["method"].get("target")
    if chosen is not None:
        show(target_text(chosen))
    if result.evaluation is not None:
        show(evaluation_table(result.evaluation))
    if not result.recipe.is_structured:
        show(_HONEST)
    if result.out is not None:
        show(f'Written to {result.out}; open it with SentenceTransformer("{result.out}").')
