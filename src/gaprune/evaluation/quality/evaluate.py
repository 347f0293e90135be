"""Evaluating a model, and its parent, on local tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.search import SearchTask
from gaprune.evaluation.quality.task import check_batch_size
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from gaprune.evaluation.quality.task import Task


def evaluate(
    model: SentenceTransformer,
    tasks: Sequence[Task],
    *,
    prompts: Prompts | None = None,
    parent_prompts: Prompts | None = None,
    batch_size: int = ENCODING_BATCH_SIZE,
    parent: SentenceTransformer | Evaluation | None = None,
    label: str = "Evaluating",
    keep_vectors: bool = False,
) -> Evaluation:
    """Score ``model``, and its parent if one is given, in ``tasks``.

    Beside its parent the model is also scored in the parent's index: its queries against the parent's passages.

    Args:
        model: The model; it is not changed.
        tasks: The tasks, from :func:`find_tasks`.
        prompts: Prompts for retrieval and triplet tasks, for the parent too; each model's own by default. The other
            tasks use the model's default prompt, as ``model.encode`` does.
        parent_prompts: Prompts of the parent, if they differ.
        batch_size: Number of texts encoded at a time.
        parent: The dense model, or its evaluation on the same tasks, which is then not repeated; if that kept no
            vectors, nothing is scored in the parent's index.
        label: Title of the progress bar.
        keep_vectors: Keep the embeddings with the scores, so that this can be the parent's evaluation later.

    Raises:
        ConfigError: If there are no tasks, or the parent was evaluated on other tasks.
        ModelError: If a model gives embeddings that are not finite.
    """
    if not tasks:
        raise ConfigError("tasks: there are no tasks to evaluate.", "Name a folder of evaluation tasks.")
    check_batch_size(batch_size)
    models = [(model, prompts)]
    if isinstance(parent, Evaluation):
        parent.require_tasks(task.key for task in tasks)
    elif parent is not None:
        models.append((parent, parent_prompts or prompts))
    runs = [(each, put or resolve_prompts(each), task) for each, put in models for task in tasks]
    scores = tuple(task.evaluate(each, prompts=put, batch_size=batch_size) for each, put, task in track(runs, label))
    found = Evaluation(scores[: len(tasks)])
    if len(models) > 1:
        parent = Evaluation(scores[len(tasks) :])
    found = _beside(found, parent, tasks) if isinstance(parent, Evaluation) else found
    return found if keep_vectors else found.without_vectors()


def _beside(child: Evaluation, parent: Evaluation, tasks: Sequence[Task]) -> Evaluation:
    """Return the scores of a child with its parent's, and those of its queries in the parent's index."""
    its = {score.key: score for score in parent.scores}
    scores, dimensions = [], None
    for task, score in zip(tasks, child.against(parent).scores, strict=True):
        index, mine, other = None, score.vectors, its[score.key].vectors
        if isinstance(task, SearchTask) and mine is not None and other is not None:
            dimensions = mine.passages.shape[1], other.passages.shape[1]
            index = task.in_index(mine, other) if dimensions[0] == dimensions[1] else None
        scores.append(replace(score, index=index, interval=_interval([task], child, parent)))
    by_domain = {domain: [task for task in tasks if task.domain == domain] for domain in child.domains}
    found = {domain: _interval(some, child, parent) for domain, some in by_domain.items()}
    intervals = {domain: each for domain, each in found.items() if each is not None}
    beside = Evaluation(tuple(scores), dimensions, intervals=intervals)
    return replace(beside, index_intervals=_index_intervals(beside, parent, tasks))


def _index_intervals(child: Evaluation, parent: Evaluation, tasks: Sequence[Task]) -> dict[str, tuple[float, float]]:
    """Return by domain the 95 % interval of the change of the mean in the parent's index."""
    found = {}
    for domain in child.domains:
        deciding = child.in_index(domain)
        keys = {score.key for score in deciding}
        its = Evaluation(tuple(score for score in parent.scores if score.key in keys))
        mine = Evaluation(
            tuple(replace(score, items=score.index.items) for score in deciding if score.index is not None)
        )
        interval = _interval([task for task in tasks if task.key in keys], mine, its) if keys else None
        if interval is not None:
            found[domain] = interval
    return found


def _interval(tasks: Sequence[Task], child: Evaluation, parent: Evaluation) -> tuple[float, float] | None:
    """Return the 95 % interval of the change of a mean, where the results of single queries or texts are known."""
    keys = {task.key for task in tasks}
    if any(score.items is None for each in (child, parent) for score in each.scores if score.key in keys):
        return None
    found = paired_bootstrap(tasks, [child], parent)
    return found.low, found.high
