"""The front matter of a card, which the hub reads: origin, licence, languages, tags, and results as model-index."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from gaprune.models.demo import DEMO

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.portable import Parent

_TASKS = {
    "retrieval": ("information-retrieval", "Information Retrieval"),
    "triplets": ("triplet", "Triplet"),
    "STS": ("semantic-similarity", "Semantic Similarity"),
    "pair classification": ("binary-classification", "Binary Classification"),
    "classification": ("text-classification", "Text Classification"),
}
"""Types of tasks on the hub, and their names, by our kind."""


def short_name(name: str) -> str:
    """Return the last part of a hub id or path."""
    return name.rstrip("/").rsplit("/", maxsplit=1)[-1]


def front_matter(
    parent: Parent,
    *,
    name: str,
    relation: Literal["finetune", "quantized"],
    tags: Collection[str],
    evaluation: Evaluation | None = None,
) -> str:
    """Return the front matter between its two marks.

    Args:
        parent: The model that this one was made from; named as base model if it is on the hub.
        name: Name of this model, under which the hub lists the results.
        relation: How the hub calls what was done to the parent.
        tags: Tags beside those of the parent.
        evaluation: Results to list.
    """
    from huggingface_hub import ModelCardData

    card = parent.card
    is_on_hub = (not parent.local or parent.path == DEMO) and "/" in parent.name
    known = ("sentence-transformers", "feature-extraction", "sentence-similarity")
    data = ModelCardData(
        base_model=parent.name if is_on_hub else None,
        base_model_relation=relation if is_on_hub else None,
        language=list(card.language) or None,
        library_name="sentence-transformers",
        license=card.license,
        license_name=card.license_name,
        license_link=card.license_link,
        pipeline_tag="sentence-similarity",
        tags=list(dict.fromkeys([*known, *card.tags, *tags])),
        model_name=None if evaluation is None else name,
        eval_results=None if evaluation is None else _results(evaluation),
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _results(evaluation: Evaluation) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    results = []
    for score in evaluation.scores:
        task, words = _TASKS.get(score.kind, (score.kind.lower().replace(" ", "-"), score.kind))
        results.append(
            EvalResult(
                task_type=task,
                task_name=words,
                dataset_type="/".join(filter(None, (score.domain, score.task))),  # results of equal type are merged
                dataset_name=score.task,
                metric_type=score.metric.lower().replace("@", "_at_").replace(" ", "_"),
                metric_name=score.metric,
                metric_value=round(score.value, 4),
            )
        )
    return results
