"""Queries that changed: by how much, in which order, and what was found, from embeddings made by hand."""

from __future__ import annotations

import math

import torch

from gaprune.evaluation.quality.changed import changed_queries
from gaprune.evaluation.quality.index import Vectors
from gaprune.evaluation.quality.retrieval import RetrievalTask

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
    mirrored = changed_queries(TASK, PARENT, child)
    assert [(each.query, each.value) for each in mirrored.better] == [("query 0", 1.0), ("query 1", 1.0)]
    assert not mirrored.worse


def test_at_most_so_many_and_none_without_a_change():
    child = Vectors(EYE.roll(1, 0), EYE)
    assert len(changed_queries(TASK, child, PARENT, most=1).worse) == 1
    same = changed_queries(TASK, PARENT, PARENT)
    assert not same.worse
    assert not same.better
