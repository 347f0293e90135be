"""Queries that a child answers worse, and better, than its parent, with what both find first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.evaluation.quality.retrieval import FIRST
from gaprune.util.records import Record

if TYPE_CHECKING:
    from gaprune.evaluation.quality.index import Vectors
    from gaprune.evaluation.quality.retrieval import RetrievalTask

__all__ = ["ChangedQueries", "ChangedQuery", "Found", "changed_queries"]

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
            tuple(Found(text=texts[n][:_LETTERS], is_relevant=identifiers[n] in grades) for n in each[:_SHOWN])
            for each in places
        )
        changed.append(
            ChangedQuery(query=query[:_LETTERS], value=value, parent=parent, found=found, found_by_parent=others)
        )
    changed.sort(key=lambda each: each.value - each.parent)
    return ChangedQueries(
        worse=tuple(each for each in changed[:most] if each.value < each.parent),
        better=tuple(each for each in reversed(changed[-most:]) if each.value > each.parent),
    )
