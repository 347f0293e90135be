"""Evaluating a model, and its parent, on local tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.errors import ConfigError
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import ENCODING_BATCH_SIZE, check_batch_size
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from gaprune.evaluation.quality.task import Task

__all__ = ["evaluate"]


def evaluate(
    model: SentenceTransformer,
    tasks: Sequence[Task],
    *,
    prompts: Prompts | None = None,
    parent_prompts: Prompts | None = None,
    batch_size: int = ENCODING_BATCH_SIZE,
    parent: SentenceTransformer | Evaluation | None = None,
    label: str = "Evaluating",
) -> Evaluation:
    """Score ``model``, and its parent if one is given, in ``tasks``.

    Args:
        model: The model; it is not changed.
        tasks: The tasks, from :func:`find_tasks`.
        prompts: Prompts for retrieval and triplet tasks, for the parent too; each model's own by default. The other
            tasks use the model's default prompt, as ``model.encode`` does.
        parent_prompts: Prompts of the parent, if they differ.
        batch_size: Number of texts encoded at a time.
        parent: The dense model, or its evaluation on the same tasks, which is then not repeated.
        label: Title of the progress bar.

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
    return found.against(parent) if isinstance(parent, Evaluation) else found
