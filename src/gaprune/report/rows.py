"""Rows of the tables about a result, which its card and its page share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaprune.export.records import Calibration, DataSet, DistillationData, Recovery, Structured, Unstructured
from gaprune.report.front_matter import short_name
from gaprune.report.sentences import constants_text, negatives_text, percent, reconstruction_text, target_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import RecoveryData, Sparsity

Rows = list[tuple[str, str]]

DATA_COLUMNS = ("kind", "name", "triplets", "negatives", "SHA-256 of the texts")
TRAINING_COLUMNS = ("kind", "name", "number", "SHA-256 of the texts")
EVALUATION_COLUMNS = ("domain", "task", "metric", "this model", "parent", "change [95 %]")


def method_rows(provenance: Provenance) -> Rows:
    """Return how a model was pruned: what, and its value in words."""
    parent, method, pruning = provenance.parent, provenance.method, provenance.method.pruning
    constants = constants_text(method.options)
    rows = [
        ("parent", short_name(parent.name)),
        ("parent revision", parent.commit or parent.revision or f"weights {parent.weights_sha256[:12]}"),
        ("criterion", (method.criterion or "unknown") + (f" ({constants})" if constants else "")),
    ]
    if isinstance(pruning, Structured):
        rows += _structured_rows(pruning, provenance.sparsity)
    else:
        rows += _unstructured_rows(pruning, provenance.sparsity)
    if method.criterion is not None:
        rows.append(("reconstruction", reconstruction_text(method.reconstruction)))
    if provenance.max_length is not None:
        is_alone = provenance.recoveries or provenance.evaluation is None
        steps = "calibration" if is_alone else "calibration and evaluation"
        limit = f"{provenance.max_length} tokens; the model itself reads texts up to its own limit"
        rows.append((f"maximum text length in {steps}", limit))
    return rows


def _unstructured_rows(pruning: Unstructured, sparsity: Sparsity) -> Rows:
    return [
        ("granularity", pruning.granularity),
        ("allocation", pruning.allocation or "fixed by the granularity"),
        ("targets", f"{', '.join(pruning.targets)} ({len(pruning.linear_layers)} linear layers)"),
        (
            "sparsity of the selected weights",
            f"{percent(sparsity.of_selected)} ({sparsity.removed:,} of {sparsity.selected:,})",
        ),
        ("sparsity of the whole model", f"{percent(sparsity.of_model)} of {sparsity.parameters:,} parameters"),
    ]


def _structured_rows(pruning: Structured, sparsity: Sparsity) -> Rows:
    return [
        *((f"removed {each.label}", f"{each.removed:,} of {each.total:,}") for each in pruning.removed),
        (
            "parameters",
            f"{sparsity.parameters:,} of {sparsity.parent_parameters:,} ({percent(sparsity.of_model)} removed)",
        ),
        ("sparsity of the selected parameters", f"{percent(sparsity.of_selected)} of {sparsity.selected:,}"),
        *([("target", target_text(pruning.target))] if pruning.target else ()),
    ]


def data_rows(calibration: Calibration) -> list[tuple[str, ...]]:
    """Return a row for each kind of calibration data, under :data:`DATA_COLUMNS`."""
    return [
        (kind, short_name(data.name), f"{data.triplets:,}", negatives_text(data), data.sha256[:16])
        for kind, data in (("domain", calibration.domain), ("general", calibration.general))
        if data is not None
    ]


def training_rows(data: RecoveryData | DistillationData) -> list[tuple[str, ...]]:
    """Return a row for each set that a recovery was trained or judged on, under :data:`TRAINING_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for kind, each in (("domain", data.domain), ("general", data.general), ("held-out", data.held_out)):
        if each is not None:
            count = f"{each.triplets:,} triplets" if isinstance(each, DataSet) else f"{each.passages:,} passages"
            rows.append((kind, short_name(each.name), count, each.sha256[:16]))
    return rows


def recovery_rows(recovery: Recovery) -> Rows:
    """Return how a model was trained: what, and its value in words."""
    training, data, rows = recovery.training, recovery.data, []
    unit = "pairs of a query and its passage" if isinstance(data, DistillationData) else "triplets"
    share = f"{data.general_share:.0%}" if data.general_share else "none"
    if recovery.round is not None:
        before = f"{percent(recovery.round.sparsity)} of the selected weights"
        rows.append(
            ("pruned before it", f"{before}; reconstruction: {reconstruction_text(recovery.round.reconstruction)}")
        )
    rows += [
        ("steps", f"{training.steps} of {recovery.steps}; the weights are those of step {training.best_step}"),
        (f"{unit} per step", f"{recovery.batch_size}, {share} of them general"),
        ("loss", " + ".join(f"{weight:g} x {term}" for term, weight in recovery.loss.items())),
        ("maximum learning rate", f"{training.learning_rate:g}"),
        ("trained", f"low-rank updates of rank {recovery.lora}, merged" if recovery.lora else "all weights"),
    ]
    if training.masked_weights:
        rows.append(("weights kept at zero", f"{training.masked_weights:,}"))
    if training.distillation:
        points = [point for point in training.distillation if point.step in (0, training.best_step)]
        cosines = (f"{point.held_out_cosine:.4f} at {point.tokens:,} tokens" for point in points)
        rows.append((f"held-out cosine to {recovery.taught_by}", ", ".join(cosines)))
        ranked = (f"{point.held_out_ndcg:.4f}" for point in points if point.held_out_ndcg is not None)
        rows.append(("held-out nDCG@10 at the same points", ", ".join(ranked)))
    elif training.before:
        rows.append(("held-out loss", f"{training.before['loss']:.4f} before, {training.after['loss']:.4f} after"))
    kinds = (("domain", data.domain), ("general", data.general), ("held-out", data.held_out))
    for kind, each in kinds:
        if isinstance(each, DataSet):
            rows.append((f"{kind} triplets", f"{each.triplets:,} of {short_name(each.name)}"))
        elif each is not None:
            rows.append((f"{kind} passages", f"{each.passages:,} of {short_name(each.name)}"))
    return rows


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return a row for each task and for the mean of several, under :data:`EVALUATION_COLUMNS`."""
    rows = []
    for row in evaluation.rows():
        values = [row["value"], row["parent"]]
        name = "mean" if row["kind"] == "mean" else str(row["task"])
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append((str(row["domain"] or "all"), name, str(row["metric"]), *cells, change_text(row)))
    return rows


def change_text(row: Mapping[str, Any]) -> str:
    """Return the change of a score from the parent, with its interval where there is one."""
    if row["change"] is None:
        return ""
    interval = row.get("interval")
    shown = "" if interval is None else f" [{interval[0]:+.4f}, {interval[1]:+.4f}]"
    return f"{row['change']:+.4f}{shown}"
