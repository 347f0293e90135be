"""The tasks of benchmarks/frontier.py, made small enough for hundreds of models by a fixed rule."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from gaprune.data.documents.search import Bm25
from gaprune.evaluation.quality.classification import ClassificationTask
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.pairs import PairTask
from gaprune.evaluation.quality.retrieval import RetrievalTask
from gaprune.evaluation.quality.task import Task

PASSAGES = {"domain": 600, "general": 300}
QUERIES = {"domain": 400, "general": 150}
PAIRS = {"domain": 700, "general": 500}
TEXTS = {"domain": (10, 8), "general": (6, 3)}
"""Texts of each label to learn from, and to judge."""

Item = TypeVar("Item")


def chosen_tasks(folder: Path, domain: str, *, whole: bool) -> list[Task]:
    """Return the tasks of a domain and the general ones, whole or in part."""
    found = []
    for name, kind in ((domain, "domain"), ("general", "general")):
        tasks = [replace(task, domain=name) for task in find_tasks(folder / name)]
        found += tasks if whole else [part(task, kind) for task in tasks]
    return found


def part(task: Task, kind: str) -> Task:
    """Return part of a task: a fixed sample; of passages those that answer, then the hardest by BM25."""
    if isinstance(task, RetrievalTask):
        return part_of_retrieval(task, QUERIES[kind], PASSAGES[kind])
    if isinstance(task, PairTask):
        rows = drawn(range(len(task.scores)), PAIRS[kind])
        first, second, scores = (tuple(each[row] for row in rows) for each in (task.first, task.second, task.scores))
        return replace(task, first=first, second=second, scores=scores)
    if isinstance(task, ClassificationTask):
        train, test = (
            some_of_each(each, most) for each, most in zip((task.train, task.test), TEXTS[kind], strict=True)
        )
        return replace(task, train=train, test=test)
    return task


def part_of_retrieval(task: RetrievalTask, queries: int, passages: int) -> RetrievalTask:
    """Return some queries among the passages that answer them and those that BM25 ranks next, best ranks first."""
    asked = drawn(list(task.queries), queries)
    kept = dict.fromkeys(document for query in asked for document in task.grades[query])
    identifiers = list(task.documents)
    ranks = np.argsort(-Bm25(list(task.documents.values())).scores([task.queries[each] for each in asked]), axis=1)
    for column in ranks.T:
        for place in column:
            if len(kept) < passages:
                kept[identifiers[place]] = None
    return replace(
        task,
        queries={each: task.queries[each] for each in asked},
        documents={each: task.documents[each] for each in identifiers if each in kept},
        grades={each: task.grades[each] for each in asked},
    )


def some_of_each(items: tuple[tuple[str, str], ...], most: int) -> tuple[tuple[str, str], ...]:
    """Return the first texts of every label; where labels are few, as many as if there were thirty."""
    labels = len({label for _, label in items})
    most = max(most, most * 30 // labels)
    seen: Counter[str] = Counter()
    found = []
    for text, label in items:
        seen[label] += 1
        if seen[label] <= most:
            found.append((text, label))
    return tuple(found)


def drawn(items: list[Item] | range, most: int) -> list[Item]:
    """Return a fixed sample, in order."""
    chosen = set(random.Random(0).sample(range(len(items)), min(most, len(items))))
    return [item for place, item in enumerate(items) if place in chosen]
