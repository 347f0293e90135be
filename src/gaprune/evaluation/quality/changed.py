"""Queries that a child answers worse, and better, than its parent, with what both find first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.retrieval import FIRST, RetrievalTask
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.evaluation.quality.index import Vectors
    from gaprune.evaluation.quality.task import Task
    from gaprune.models.prompts import Prompts

_SHOWN = 5
_LETTERS = 200


class Found(Record):
    """A document that a query found: the beginning of its text, and whether it is relevant."""

    text: str
    is_relevant: bool


class ChangedQuery(Record):
    """The beginning of a query with the nDCG@10 of child and parent, and the first five documents of each."""

    query: str
    value: float
    parent: float
    found: tuple[Found, ...]
    found_by_parent: tuple[Found, ...]


class ChangedQueries(Record):
    """The queries with the largest losses, and those with the largest gains; the largest first."""

    worse: tuple[ChangedQuery, ...] = ()
    better: tuple[ChangedQuery, ...] = ()


def changed_queries(task: RetrievalTask, mine: Vectors, its: Vectors, *, most: int = 10) -> ChangedQueries:
    """Return the queries of ``task`` whose nDCG@10 changed most from parent to child.

    Args:
        task: The task.
        mine: Embeddings of the child, as the task's evaluation keeps them.
        its: Embeddings of the parent.
        most: Queries of each kind at most.
    """
    from gaprune.evaluation.quality.metrics import first, graded_ndcg

    identifiers, texts, changed = list(task.documents), list(task.documents.values()), []
    rankings = [first(each.queries, each.passages, FIRST) for each in (mine, its)]
    for (identifier, query), *places in zip(task.queries.items(), *rankings, strict=True):
        grades = task.grades[identifier]
        value, parent = (graded_ndcg([identifiers[place] for place in each], grades, FIRST) for each in places)
        found, others = (
            tuple(Found(text=_beginning(texts[n]), is_relevant=identifiers[n] in grades) for n in each[:_SHOWN])
            for each in places
        )
        changed.append(
            ChangedQuery(query=_beginning(query), value=value, parent=parent, found=found, found_by_parent=others)
        )
    return _most_changed(changed, most)


def _beginning(text: str) -> str:
    """Return a text, or its first words and an ellipsis if it is long; words of half a text are cut."""
    if len(text) <= _LETTERS:
        return text
    cut = text[: _LETTERS - 1]
    words = cut.rpartition(" ")[0]
    return f"{words if len(words) > _LETTERS // 2 else cut}…"


def evaluate_queries(
    model: SentenceTransformer,
    tasks: Sequence[Task],
    *,
    parent: SentenceTransformer | Evaluation | None,
    parent_prompts: Prompts | None = None,
    **options: Any,
) -> tuple[Evaluation, ChangedQueries | None]:
    """Return the evaluation of a model beside its parent, and the queries that changed most.

    Queries are those of all retrieval tasks, but of general ones only if there are no others; ``None`` without
    retrieval tasks, or if the parent's embeddings are not there.

    Args:
        model: The model.
        tasks: The tasks.
        parent: The parent, or its evaluation on the same tasks with its embeddings.
        parent_prompts: Prompts of the parent, if they differ.
        **options: Other arguments of :func:`gaprune.evaluate`.
    """
    if parent is None:
        return evaluate(model, tasks, **options), None
    if not isinstance(parent, Evaluation):
        its_own: dict[str, Any] = {} if parent_prompts is None else {"prompts": parent_prompts}
        its_own |= {"label": "Evaluating the parent", "keep_vectors": True}
        parent = evaluate(parent, tasks, **options | its_own)
    found = evaluate(model, tasks, parent=parent, **options | {"keep_vectors": True})
    its = {score.key: score.vectors for score in parent.scores}
    both = [
        (task, score.vectors, its[score.key])
        for task, score in zip(tasks, found.scores, strict=True)
        if isinstance(task, RetrievalTask)
    ]
    of_domain = [each for each in both if each[0].domain != "general"] or both
    changed = [
        changed_queries(task, mine, other) for task, mine, other in of_domain if mine is not None and other is not None
    ]
    queries = _most_changed(each for some in changed for each in (*some.worse, *some.better)) if changed else None
    return found.without_vectors(), queries


def _most_changed(queries: Iterable[ChangedQuery], most: int = 10) -> ChangedQueries:
    changed = sorted(queries, key=lambda each: each.value - each.parent)
    return ChangedQueries(
        worse=tuple(each for each in changed[:most] if each.value < each.parent),
        better=tuple(each for each in reversed(changed[-most:]) if each.value > each.parent),
    )
