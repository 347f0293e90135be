"""Queries that changed: by how much, in which order, and what was found, from embeddings made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import gaprune
from gaprune.evaluation.quality.changed import changed_queries, evaluate_queries
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.index import Vectors
from gaprune.evaluation.quality.retrieval import RetrievalTask
from gaprune.export.folder import read_queries
from toys import tasks_folder

TASK = RetrievalTask(
    name="held-out",
    domain="domain",
    fingerprint="",
    queries={f"q{place}": f"query {place}" for place in range(3)},
    documents={f"d{place}": f"document {place} " + 400 * "x" for place in range(3)},
    grades={f"q{place}": {f"d{place}": 1.0} for place in range(3)},
)
EYE = torch.eye(3)
PARENT = Vectors(EYE, EYE)
"""Every query finds its document first."""


def test_worse_and_better_are_mirrored():
    """The first query finds document 1, then 2, then its own; the second finds its own second."""
    child = Vectors(torch.tensor([[0.0, 0.8, 0.6], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]), EYE)
    found = changed_queries(TASK, child, PARENT)
    assert [(each.query, each.parent) for each in found.worse] == [("query 0", 1.0), ("query 1", 1.0)]
    assert [each.value for each in found.worse] == [1 / math.log2(rank + 1) for rank in (3, 2)]
    assert not found.better
    first = found.worse[0]
    assert [each.text.split(" x")[0] for each in first.found] == ["document 1", "document 2", "document 0"]
    assert [each.is_relevant for each in first.found] == [False, False, True]
    assert first.found_by_parent[0].is_relevant
    assert max(len(each.text) for each in first.found) == 200
    assert all(each.text.endswith("x…") for each in first.found)
    mirrored = changed_queries(TASK, PARENT, child)
    assert [(each.query, each.value) for each in mirrored.better] == [("query 0", 1.0), ("query 1", 1.0)]
    assert not mirrored.worse


def test_at_most_so_many_and_none_without_a_change():
    child = Vectors(EYE.roll(1, 0), EYE)
    assert len(changed_queries(TASK, child, PARENT, most=1).worse) == 1
    same = changed_queries(TASK, PARENT, PARENT)
    assert not same.worse
    assert not same.better


@pytest.mark.parametrize("command", ["prune", "recover"])
def test_what_was_judged_beside_its_parent_shows_them(bert, toy_triplets, tmp_path, command):
    """The page and the file of a pruned or recovered model have the queries of the task of its domain."""
    out, tasks = tmp_path / "child", gaprune.find_tasks(tasks_folder(tmp_path / "tasks"))
    if command == "prune":
        result = gaprune.prune(bert, criterion="random", sparsity=0.9, tasks=tmp_path / "tasks", out=out)
    else:
        child = gaprune.prune(bert, criterion="random", sparsity=0.9).model
        options = {"steps": 1, "batch_size": 2, "held_out": 0}
        result = gaprune.recover(child, domain=toy_triplets, **options).evaluate(tasks, parent=bert)
        result.save(out)
    (task,) = [each for each in tasks if isinstance(each, RetrievalTask)]
    mine, its = (
        next(score.vectors for score in evaluate(each, [task], keep_vectors=True).scores)
        for each in (result.model, bert)
    )
    expected = changed_queries(task, mine, its)
    assert expected.worse or expected.better
    assert read_queries(out) == expected
    assert 'id="queries"' in (out / "report.html").read_text(encoding="utf-8")


def test_queries_of_general_tasks_count_if_there_are_no_others(bert, tmp_path):
    """The largest changes of all tasks of the domain; general ones alone have those of all of them."""
    tasks = gaprune.find_tasks(tasks_folder(tmp_path / "tasks"))
    (task,) = [each for each in tasks if isinstance(each, RetrievalTask)]
    child = gaprune.prune(bert, criterion="random", sparsity=0.9).model
    other = replace(task, name="Other", queries={f"o{key}": f"cash {text}" for key, text in task.queries.items()})
    other = replace(other, grades={f"o{key}": grades for key, grades in task.grades.items()})
    general = replace(other, domain="general")

    def worse(*chosen):
        return [each.query for each in evaluate_queries(child, chosen, parent=bert)[1].worse]

    assert worse(task, general) == worse(task)
    assert worse(general) == worse(other)
    assert {*worse(task, other)} == {*worse(task), *worse(other)}
    assert worse(other)


def test_long_texts_end_with_a_whole_word():
    spoken = replace(TASK, documents=dict.fromkeys(TASK.documents, "passages " * 40))
    child = Vectors(torch.tensor([[0.0, 0.8, 0.6], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]), EYE)
    assert changed_queries(spoken, child, PARENT).worse[0].found[0].text.endswith("passages passages…")
