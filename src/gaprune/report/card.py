"""The model card of a result: what it is, how it was made, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.export.records import Calibration, DataSet, DistillationData, Recovery, Structured, Unstructured
from gaprune.report.front_matter import front_matter, short_name
from gaprune.report.index import INDEX_COLUMNS, index_rows, index_text
from gaprune.report.markdown import markdown_table
from gaprune.report.sentences import (
    ZEROS,
    constants_text,
    negatives_text,
    percent,
    reconstruction_text,
    target_text,
    worth_lines,
)

if TYPE_CHECKING:
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import Sparsity

__all__ = ["model_card"]

Rows = list[tuple[str, str]]

_OPEN = """\
{made} Open it like any sentence-transformers model:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
{code}
```
"""
_PLAIN = 'embeddings = model.encode(["a text", "another text"])'
_PROMPTED = """\
queries = model.encode(["a question"], prompt={query!r})
passages = model.encode(["a text that answers it", "another text"], prompt={passage!r})
similarities = model.similarity(queries, passages)"""

_PRUNED = "This is `{name}`, pruned with [GAPrune](https://arxiv.org/abs/2509.10844) for a domain: "
_ZEROED = "the weights that matter least to the domain are exactly zero."
_REMOVED = "the parts that matter least to the domain were removed."
_THEN = " It was then fine-tuned{held}."
_HELD = ", with its zeros kept at zero"
_RECOVERED = "This is `{name}`, fine-tuned with GAPrune for a domain, with its zeros kept at zero."


def model_card(provenance: Provenance, evaluation: Evaluation | None) -> str:
    """Return the text of ``README.md`` for a result with this provenance."""
    parent, method = short_name(provenance.parent.name), provenance.method
    pruned = method.criterion is not None
    share = round(100 * provenance.sparsity.of_model)
    name = f"{parent}-pruned-{share}" if pruned else f"{parent}-fine-tuned"
    query, passage = (text or "" for text in (provenance.prompts.query, provenance.prompts.passage))
    code = _PROMPTED.format(query=query, passage=passage) if query or passage else _PLAIN
    tags = ("pruning", "gaprune") if pruned else ("gaprune",)
    parts = [
        front_matter(provenance.parent, name=name, relation="finetune", tags=tags, evaluation=evaluation),
        f"\n# {name}\n\n",
        _OPEN.format(made=_made(provenance).format(name=parent), code=code),
        "\n## What it is worth\n\n",
        *(f"- {line}\n" for line in worth_lines(provenance, evaluation)),
        "\n## Method\n\n",
        markdown_table(["", "value"], _method_rows(provenance)),
    ]
    if pruned:
        parts += ["\n## Calibration data\n\n", _data_section(provenance.calibration)]
    for number, recovery in enumerate(provenance.recoveries, start=1):
        heading = "Recovery" if len(provenance.recoveries) == 1 else f"Recovery {number}"
        parts += [f"\n## {heading}\n\n", markdown_table(["", "value"], _recovery_rows(recovery))]
    if evaluation is not None:
        parts += ["\n## Evaluation\n\n", _evaluation_section(evaluation), *_index_section(evaluation, parent)]
    if provenance.sparsity.removed and isinstance(method.pruning, Unstructured):
        parts.append(f"\n## Size and speed\n\nThis model has the shape of its parent. {ZEROS}\n")
    parts.append("\n`gaprune.json` records everything that made this model.\n")
    return "".join(parts)


def _made(provenance: Provenance) -> str:
    if provenance.method.criterion is None:
        return _RECOVERED
    structured = isinstance(provenance.method.pruning, Structured)
    then = _THEN.format(held="" if structured else _HELD) if provenance.recoveries else ""
    return _PRUNED + (_REMOVED if structured else _ZEROED) + then


def _method_rows(provenance: Provenance) -> Rows:
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
        steps = "calibration" if provenance.recoveries else "calibration and evaluation"
        rows.append((f"maximum text length in {steps}", f"{provenance.max_length} tokens"))
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


def _data_section(calibration: Calibration) -> str:
    rows = [
        (kind, short_name(data.name), f"{data.triplets:,}", negatives_text(data), f"`{data.sha256[:16]}`")
        for kind, data in (("domain", calibration.domain), ("general", calibration.general))
        if data is not None
    ]
    if not rows:
        return "None: this criterion uses the weights alone.\n"
    return markdown_table(["kind", "name", "triplets", "negatives", "SHA-256"], rows)


def _recovery_rows(recovery: Recovery) -> Rows:
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
        ("weights kept at zero", f"{training.masked_weights:,}"),
    ]
    if training.distillation:
        points = [point for point in training.distillation if point.step in (0, training.best_step)]
        cosines = (f"{point.held_out_cosine:.4f} at {point.tokens:,} tokens" for point in points)
        rows.append(("held-out cosine to the parent", ", ".join(cosines)))
    elif training.before:
        rows.append(("held-out loss", f"{training.before['loss']:.4f} before, {training.after['loss']:.4f} after"))
    kinds = (("domain", data.domain), ("general", data.general), ("held-out", data.held_out))
    for kind, each in kinds:
        if isinstance(each, DataSet):
            rows.append((f"{kind} triplets", f"{each.triplets:,} of {short_name(each.name)}"))
        elif each is not None:
            rows.append((f"{kind} passages", f"{each.passages:,} of {short_name(each.name)}"))
    return rows


def _evaluation_section(evaluation: Evaluation) -> str:
    rows = []
    for row in evaluation.rows():
        values = [row["value"], row["parent"], row["change"]]
        name = "mean" if row["kind"] == "mean" else str(row["task"])
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append((str(row["domain"] or "all"), name, str(row["metric"]), *cells))
    return markdown_table(["domain", "task", "metric", "this model", "parent", "change"], rows)


def _index_section(evaluation: Evaluation, parent: str) -> list[str]:
    """Return whether the parent's index can be kept, if it was measured, with the scores behind it."""
    found, rows = evaluation.parent_index(), index_rows(evaluation)
    if found is None:
        return []
    table = ["\n", markdown_table(INDEX_COLUMNS, rows)] if rows else []
    return [f"\n## In the parent's index\n\n{index_text(found, parent)}\n", *table]
