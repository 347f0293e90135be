"""The model card of a result: what it is, how it was made, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.export.records import Calibration, DistillationData, Structured, Unstructured
from gaprune.report.front_matter import front_matter, short_name
from gaprune.report.index import INDEX_COLUMNS, index_rows, index_text
from gaprune.report.markdown import markdown_table
from gaprune.report.rows import (
    DATA_COLUMNS,
    EVALUATION_COLUMNS,
    data_rows,
    evaluation_rows,
    method_rows,
    recovery_rows,
)
from gaprune.report.sentences import ZEROS, worth_lines

if TYPE_CHECKING:
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance

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
_HELD = ", with its zeros kept at zero"
_RECOVERED = "This is `{name}`, {how} with GAPrune for a domain, with its zeros kept at zero."
_IN_VAIN = " Its training afterwards changed nothing: the weights from before were better."


_UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"), (1, ""))
"""Numbers of parameters in the name of a model, the largest first."""


def model_card(provenance: Provenance, evaluation: Evaluation | None) -> str:
    """Return the text of ``README.md`` for a result with this provenance."""
    parent, method = short_name(provenance.parent.name), provenance.method
    pruned = method.criterion is not None
    name = f"{parent}-pruned-{_size(provenance)}" if pruned else f"{parent}-fine-tuned"
    query, passage = (text or "" for text in (provenance.prompts.query, provenance.prompts.passage))
    code = _PROMPTED.format(query=query, passage=passage) if query or passage else _PLAIN
    tags = ("pruning", "gaprune") if pruned else ("gaprune",)
    listed = None if provenance.leaks else evaluation  # the hub shows results without their warnings
    parts = [
        front_matter(provenance.parent, name=name, relation="finetune", tags=tags, evaluation=listed),
        f"\n# {name}\n\n",
        _OPEN.format(made=_made(provenance, parent), code=code),
        "\n## What it is worth\n\n",
        *(f"- {line}\n" for line in worth_lines(provenance, evaluation)),
        "\n## Method\n\n",
        markdown_table(["", "value"], method_rows(provenance)),
    ]
    if pruned:
        parts += ["\n## Calibration data\n\n", _data_section(provenance.calibration)]
    for number, recovery in enumerate(provenance.recoveries, start=1):
        heading = "Recovery" if len(provenance.recoveries) == 1 else f"Recovery {number}"
        parts += [f"\n## {heading}\n\n", markdown_table(["", "value"], recovery_rows(recovery))]
    if evaluation is not None:
        parts += ["\n## Evaluation\n\n", markdown_table(EVALUATION_COLUMNS, evaluation_rows(evaluation))]
        parts += _index_section(evaluation, short_name(provenance.beside or parent))
    if provenance.sparsity.removed and isinstance(method.pruning, Unstructured):
        parts.append(f"\n## Size and speed\n\nThis model has the shape of its parent. {ZEROS}\n")
    parts.append("\n`gaprune.json` records everything that made this model.\n")
    return "".join(parts)


def _made(provenance: Provenance, parent: str) -> str:
    """Return how the model was made: pruned, distilled, fine-tuned, as far as that changed its weights."""
    steps = [
        "distilled from its parent" if isinstance(each.data, DistillationData) else "fine-tuned"
        for each in provenance.recoveries
        if each.training.best_step
    ]
    how = " and ".join(dict.fromkeys(steps))
    if provenance.method.criterion is None:
        return _RECOVERED.format(name=parent, how=how or "trained without effect")
    structured = isinstance(provenance.method.pruning, Structured)
    then = f" It was then {how}{'' if structured else _HELD}." if how else _IN_VAIN * bool(provenance.recoveries)
    return _PRUNED.format(name=parent) + (_REMOVED if structured else _ZEROED) + then


def _size(provenance: Provenance) -> str:
    """Return the percentage of zeros among the selected weights or, without structures, the parameters: 50 or 19M."""
    found = provenance.sparsity
    if not isinstance(provenance.method.pruning, Structured):
        return str(round(100 * found.of_selected))
    unit, letter = next(each for each in _UNITS if found.parameters >= each[0])
    return f"{found.parameters / unit:.3g}{letter}"


def _data_section(calibration: Calibration) -> str:
    rows = data_rows(calibration)
    if not rows:
        return "None: this criterion uses the weights alone.\n"
    return markdown_table(DATA_COLUMNS, [(*row, f"`{fingerprint}`") for *row, fingerprint in rows])


def _index_section(evaluation: Evaluation, parent: str) -> list[str]:
    """Return whether the parent's index can be kept, if it was measured, with the scores behind it."""
    said, rows = index_text(evaluation, parent), index_rows(evaluation)
    if not said:
        return []
    table = ["\n", markdown_table(INDEX_COLUMNS, rows)] if rows else []
    return [f"\n## In the parent's index\n\n{said}\n", *table]
