"""The model card of a result: what it is, from what, at what cost, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.report.markdown import markdown_table
from gaprune.report.reconstruction import reconstruction_text
from gaprune.report.recovery import recovery_section
from gaprune.report.tables import percent
from gaprune.report.targets import target_text

if TYPE_CHECKING:
    from gaprune.evaluation.quality.scores import Evaluation

__all__ = ["model_card"]

_FRONT = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- pruning
- gaprune
{base}---

# {title}

{name} {made}. It opens as any sentence-transformers model:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
embeddings = model.encode(["a text", "another text"])
```
"""

_PRUNED = "pruned with [GAPrune](https://arxiv.org/abs/2509.10844) for a domain: "
_ZEROS = "the weights that matter least to it are\nexact zeros"
_CUT_OUT = "what matters least to it is cut out"
_THEN = ", and what stays\nwas retrained"
_RETRAINED = "retrained with GAPrune for a domain, with its zeros held"

_HONEST = """
## What zeros do not do

This model has the shape of its parent. Its file is as large, it takes as much memory and runs as fast: today's
runtimes do not profit from zeros, unless they have kernels for an N:M pattern and are told to use them. What the
zeros show is which weights the domain does not need. Smaller and faster are models pruned by whole units
(`gaprune prune --width`, `--heads`, `--depth` or `--vocabulary`), and models in int8
(`gaprune export --to onnx --int8`); `gaprune export --to archive` keeps the zeros of this one in a smaller file.
"""


def model_card(provenance: Mapping[str, Any], evaluation: Evaluation | None) -> str:
    """Return the text of ``README.md`` for a result with this provenance."""
    parent, method, sparsity = provenance["parent"], provenance["method"], provenance["sparsity"]
    is_hub_id = parent["name"].count("/") == 1 and not Path(parent["name"]).exists()
    base = f"base_model: {parent['name']}\n" if is_hub_id and parent["name"][0] not in "./" else ""
    units, pruned = "cuts" in method, method["criterion"] is not None
    title = f"{'Pruned' if pruned else 'Retrained'} {_short(parent['name'])}"
    recoveries = provenance.get("recovery", ())
    made = _RETRAINED
    if pruned:
        made = _PRUNED + (_CUT_OUT if units else _ZEROS) + (_THEN if recoveries else "")
    parts = [
        _FRONT.format(base=base, title=title, name=f"`{_short(parent['name'])}`", made=made),
        "\n## Method\n\n",
        markdown_table(
            ["", "value"],
            [
                *_parent_rows(parent, method),
                *(_unit_rows(method, sparsity) if units else _weight_rows(method, sparsity)),
                *([("reconstruct", reconstruction_text(method["reconstruct"]))] if pruned else ()),
                *_limit_rows(provenance["recipe"], recovered=bool(recoveries)),
            ],
        ),
    ]
    if pruned:
        parts += ["\n## Calibration data\n\n", _data_section(provenance["calibration"])]
    for number, recovery in enumerate(recoveries, start=1):
        heading = "Recovery" if len(recoveries) == 1 else f"Recovery {number}"
        parts += [f"\n## {heading}\n\n", recovery_section(recovery)]
    if evaluation is not None:
        parts += ["\n## Evaluation\n\n", _evaluation_section(evaluation)]
    parts += [
        _HONEST if sparsity["removed"] and not units else "",
        "\nEverything that made this model is in `gaprune.json`.\n",
    ]
    return "".join(parts)


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", maxsplit=1)[-1]


def _parent_rows(parent: Mapping[str, Any], method: Mapping[str, Any]) -> list[tuple[str, str]]:
    constants = ", ".join(f"{key} {value}" for key, value in method["options"].items())
    return [
        ("parent", _short(parent["name"])),
        ("parent revision", parent["commit"] or parent["revision"] or f"weights {parent['weights_sha256'][:12]}"),
        ("criterion", (method["criterion"] or "unknown") + (f" ({constants})" if constants else "")),
    ]


def _weight_rows(method: Mapping[str, Any], sparsity: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("granularity", method["granularity"]),
        ("allocation", method["allocation"] or "fixed by the granularity"),
        ("targets", ", ".join(method["targets"]) + f" ({len(method['matrices'])} matrices)"),
        (
            "sparsity of the selected weights",
            f"{percent(sparsity['of_selected'])} ({sparsity['removed']:,} of {sparsity['selected']:,})",
        ),
        ("sparsity of the whole model", f"{percent(sparsity['of_model'])} of {sparsity['parameters']:,} parameters"),
    ]


_CUT = {
    "width": "FFN neurons of every layer",
    "heads": "attention heads of every layer, by key/value group",
    "depth": "layers",
    "vocabulary": "tokens",
}


def _unit_rows(method: Mapping[str, Any], sparsity: Mapping[str, Any]) -> list[tuple[str, str]]:
    cut = [(f"cut out: {_CUT[cut['kind']]}", f"{cut['removed']:,} of {cut['total']:,}") for cut in method["cuts"]]
    return [
        *cut,
        (
            "parameters",
            f"{sparsity['parameters']:,} of {sparsity['parent_parameters']:,}: {percent(sparsity['of_model'])} fewer",
        ),
        ("sparsity of what was up for removal", f"{percent(sparsity['of_selected'])} of {sparsity['selected']:,}"),
        *([("target", target_text(method["target"]))] if method["target"] else ()),
    ]


def _limit_rows(recipe: Mapping[str, Any], *, recovered: bool) -> list[tuple[str, str]]:
    if recipe["max_length"] is None:
        return []
    where = "calibration" if recovered else "calibration and evaluation"
    return [(f"texts cut in {where}", f"at {recipe['max_length']} tokens")]


def _data_section(calibration: Mapping[str, Any]) -> str:
    rows = [
        (kind, _short(data["name"]), f"{data['triplets']:,}", _negatives(data), f"`{data['sha256'][:16]}`")
        for kind, data in calibration.items()
        if data is not None
    ]
    if not rows:
        return "None: this criterion looks at weights alone.\n"
    return markdown_table(["kind", "name", "triplets", "negatives", "SHA-256"], rows)


def _negatives(data: Mapping[str, Any]) -> str:
    """Return where the negatives of a set come from."""
    own, without = data["with_own_negatives"], data["triplets"] - data["with_own_negatives"]
    others = (
        f"{data['mined_negatives_each']} each mined by the parent" if data["mined_negatives_each"] else "in-batch only"
    )
    parts = [f"{own:,} with their own"] * bool(own) + [f"{without:,} with {others}"] * bool(without)
    return ", ".join(parts)


def _evaluation_section(evaluation: Evaluation) -> str:
    rows = []
    for row in evaluation.rows():
        values = [row["value"], row["parent"], row["change"]]
        name = "mean" if row["kind"] == "mean" else str(row["task"])
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append((str(row["domain"] or "all"), name, str(row["metric"]), *cells))
    return markdown_table(["domain", "task", "metric", "this model", "parent", "change"], rows)
