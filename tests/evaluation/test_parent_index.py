"""A child's queries against passages that its parent embedded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sentence_transformers.base.modules import Dense

import gaprune
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.index import SAME_SPACE, ParentIndex
from gaprune.evaluation.quality.metrics import graded_ndcg
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.sizes import _rankings
from gaprune.export.provenance import Provenance
from gaprune.models.prompts import Prompts
from gaprune.report.answer import answer_text
from gaprune.report.card import model_card
from gaprune.report.index import index_rows, index_text, size_rows
from provenances import structured

PROMPTS = Prompts("gold fish ", "acid four ")


@pytest.fixture
def tasks(tmp_path, write, retrieval, classification):
    retrieval(tmp_path / "zoo" / "Search")
    classification(tmp_path / "zoo" / "Labels")
    rows = [
        {"query": "red cat", "positive": "cat", "negative": "acid"},
        {"query": "gold", "positive": "fish", "negative": "salt four"},
        {"query": "blue bird", "positive": "iron", "negative": "bird"},
    ]
    write(tmp_path / "Triples.jsonl", rows)
    return find_tasks(tmp_path)


@pytest.fixture
def child(new_model):
    """A child that is near its parent without being it."""
    model, noise = new_model(), torch.Generator().manual_seed(5)
    weight = model[0].embedding.weight.data
    weight += 0.4 * torch.randn(weight.shape, generator=noise)
    return model


def unit(model, text, prompt):
    found = model.encode([text], prompt=prompt)[0].astype(float)
    return found / np.linalg.norm(found)


def test_scores_in_the_parents_index_equal_plain_loops(child, model, tasks):
    found = {score.task: score for score in evaluate(child, tasks, parent=model, prompts=PROMPTS).scores}
    by_name = {task.name: task for task in tasks}
    search = by_name["Search"]
    documents = {key: unit(model, text, PROMPTS.passage) for key, text in search.documents.items()}
    ndcg, overlap, cosines = [], [], []
    for query, text in search.queries.items():
        pair = [unit(each, text, PROMPTS.query) for each in (child, model)]
        mine, its = (sorted(documents, key=lambda key, v=v: -float(v @ documents[key]))[:10] for v in pair)
        ndcg.append(graded_ndcg(mine, search.grades[query], 10))
        overlap.append(len(set(mine) & set(its)) / len(its))
        cosines.append(pair[0] @ pair[1])
    index = found["Search"].index
    assert index.value == pytest.approx(np.mean(ndcg), abs=1e-6)
    assert index.overlap == pytest.approx(np.mean(overlap))
    assert index.query_cosine == pytest.approx(np.mean(cosines), abs=1e-5)
    mine = [unit(child, text, PROMPTS.passage) @ documents[key] for key, text in search.documents.items()]
    assert index.passage_cosine == pytest.approx(np.mean(mine), abs=1e-5)
    hits = []
    for query, near, far in by_name["Triples"].triplets:
        anchor = unit(child, query, PROMPTS.query)
        positive, negative = (anchor @ unit(model, text, PROMPTS.passage) for text in (near, far))
        hits.append(positive > negative)
    assert found["Triples"].index.value == pytest.approx(np.mean(hits))
    assert found["Triples"].index.overlap is None
    assert found["Labels"].index is None, "a classification searches nothing"


def test_a_change_from_the_parent_has_an_interval(child, model, tasks, tmp_path, write, graded_pairs):
    tasks = [*tasks, *find_tasks(write(tmp_path / "pairs" / "Graded.jsonl", graded_pairs))]
    found = evaluate(child, tasks, parent=model, prompts=PROMPTS)
    for score in found.scores:
        assert score.interval[0] <= score.change <= score.interval[1]
    for domain in found.domains:
        low, high = found.intervals[domain]
        assert low <= found.mean(domain) - found.parent_mean(domain) <= high
    itself = evaluate(model, tasks, parent=model, prompts=PROMPTS)
    assert {score.interval for score in itself.scores} == {(0.0, 0.0)}
    read = Evaluation.from_dict(json.loads(json.dumps(itself.as_dict())))
    assert [score.interval for score in read.scores] == [(0.0, 0.0)] * len(tasks)
    assert set(read.intervals.values()) == {(0.0, 0.0)}
    assert {row["interval"] for row in read.rows()} == {(0.0, 0.0)}


def test_the_change_in_the_index_has_an_interval_too(child, model, tasks):
    """That of the paired bootstrap between the parent and a model whose passages are the parent's."""
    found = evaluate(child, tasks, parent=model, prompts=PROMPTS)
    (search,) = (task for task in tasks if task.name == "Search")
    mine, its = (evaluate(each, [search], prompts=PROMPTS, keep_vectors=True) for each in (child, model))
    ((own,), (other,)) = mine.scores, its.scores
    measured = search.measure_vectors(own.vectors.queries, other.vectors.passages)
    beside = Evaluation((replace(own, value=measured.metrics[search.metric], items=measured.items),))
    expected = paired_bootstrap([search], [beside], its)
    index = found.parent_index(search.domain)
    assert index.interval == (expected.low, expected.high) == found.index_intervals[search.domain]
    assert index.value - index.parent == pytest.approx(expected.value)
    read = Evaluation.from_dict(json.loads(json.dumps(found.as_dict())))
    assert read.parent_index(search.domain) == index
    assert f"[{expected.low / index.parent:+.1%}, {expected.high / index.parent:+.1%}]" in index_text(found, "P")


@pytest.mark.parametrize(("low", "unsure"), [(-0.04, False), (-0.06, True)])
def test_too_few_queries_for_a_verdict_are_said(model, tasks, low, unsure):
    scored = evaluate(model, tasks, parent=model)
    (search,) = scored.in_index()
    interval = (low * search.parent, 0.01)
    found = replace(scored, index_intervals={search.domain: interval})
    assert ("yes, but there are too few queries" in index_text(found, "P")) == unsure


def test_a_parent_evaluated_before_gives_the_same_without_being_asked_again(child, model, tasks, monkeypatch):
    whole = evaluate(child, tasks, parent=model)
    before = evaluate(model, tasks, keep_vectors=True)
    monkeypatch.setattr(model, "encode", None)
    again = evaluate(child, tasks, parent=before)
    assert [score.index for score in again.scores] == [score.index for score in whole.scores]
    assert all(score.vectors is None for score in again.scores)
    nothing = evaluate(child, tasks, parent=before.without_vectors())
    assert all(score.index is None for score in nothing.scores)
    assert nothing.parent_index() is None, "what was not measured is not said"


def test_a_model_is_in_its_own_index(model, tasks):
    found = evaluate(model, tasks, parent=model).parent_index()
    assert found.same_space
    assert found.tasks == ("Search",), "retrieval tasks decide if there are any"
    assert found.change == 0
    assert (found.value, found.overlap) == (found.parent, 1)
    assert found.query_cosine == pytest.approx(1)


def test_triplets_decide_where_nothing_is_retrieved(child, model, tasks):
    triples = [task for task in tasks if task.kind == "triplets"]
    found = evaluate(child, triples, parent=model).parent_index()
    assert (found.metric, found.tasks, found.overlap) == ("accuracy", ("Triples",), None)


@pytest.mark.parametrize(("kept", "same"), [(SAME_SPACE + 0.001, True), (SAME_SPACE - 0.001, False)])
def test_the_same_space_is_a_share_of_the_parents_score(model, tasks, kept, same):
    scored = evaluate(model, tasks, parent=model)
    changed = [
        score if score.index is None else replace(score, index=replace(score.index, value=kept * score.parent))
        for score in scored.scores
    ]
    found = Evaluation(tuple(changed), scored.dimensions)
    assert found.parent_index().same_space == same
    assert ("yes" in index_text(found, "P")) == same
    assert f"{kept - 1:+.1%}" in index_text(found, "P")


@pytest.mark.parametrize("alone", [0.3, 0.5])
def test_embedding_again_is_advised_only_where_it_scores_more(model, tasks, alone):
    scored = evaluate(model, tasks, parent=model)
    changed = [
        score
        if score.index is None
        else replace(score, value=alone, parent=1.0, index=replace(score.index, value=0.4))
        for score in scored.scores
    ]
    found = Evaluation(tuple(changed), scored.dimensions)
    assert ("embed all passages again" in index_text(found, "P")) == (alone > 0.4)
    assert ("again" in answer_text(structured(evaluation=found.as_dict()), found)) == (alone > 0.4)


def test_the_change_is_said_by_domain_and_a_gain_is_explained(model, tasks):
    scored = evaluate(model, tasks, parent=model)
    (search,) = (score for score in scored.scores if score.task == "Search")
    two = [
        replace(search, domain=domain, parent=0.5, index=replace(search.index, value=value))
        for domain, value in (("zoo", 0.6), ("general", 0.45))
    ]
    found = Evaluation(tuple(two), scored.dimensions)
    said = index_text(found, "P")
    assert "zoo +20.0%, general -10.0%" in said
    assert found.parent_index().value > found.parent_index().parent
    assert not found.parent_index().same_space, "a gain in one domain makes up for no loss in another"
    assert "yes" not in said.split("(")[0]
    assert "cosine" in said
    assert said.index("queries of general keep less") < said.index("+20.0%"), "the cause stands before the mean"


def test_another_width_is_another_space(new_model, model, tasks):
    narrow = new_model()
    narrow.append(Dense(6, 4, bias=False, activation_function=torch.nn.Identity()))
    scored = evaluate(narrow, tasks, parent=model)
    found = scored.parent_index()
    assert (found.same_space, found.dimensions, found.parent_dimensions) == (False, 4, 6)
    assert index_rows(scored) == []
    assert "4 dimensions, the parent's 6" in index_text(scored, "P")
    with pytest.raises(ConfigError, match=r"4 dimensions, the parent's 6"):
        gaprune.evaluate(narrow, tasks=tasks, parent=model, index="parent")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"index": "parent"}, "index: the parent is not named"),
        ({"index": "other", "parent": "p"}, "index: 'other' is unknown"),
        ({"index": "parent", "parent": "p", "tasks": None, "benchmark": "finance"}, "index: mteb"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_model_is_loaded(tasks, options, text):
    with pytest.raises(ConfigError, match=text):
        gaprune.evaluate("nowhere", **{"tasks": tasks, **options})


def test_tasks_that_search_nothing_are_refused(model, tasks):
    labels = [task for task in tasks if task.kind == "classification"]
    with pytest.raises(ConfigError, match="none of the tasks searches"):
        gaprune.evaluate(model, tasks=labels, parent=model, index="parent")


def test_the_provenance_and_the_card_say_it(child, model, tasks):
    scored = evaluate(child, tasks, parent=model)
    saved = json.loads(json.dumps(structured(evaluation=scored.as_dict()).as_dict()))
    found = Provenance.model_validate(saved).parent_index
    assert isinstance(found, ParentIndex)
    assert found == scored.parent_index()
    card = model_card(structured(), scored)
    assert index_text(scored, "small-model") in card
    assert card.count("| Search |") == 2
    assert "In the parent's index" not in model_card(structured(), evaluate(child, tasks))


def test_sizes_of_an_index_equal_plain_loops(child, tasks):
    scored = gaprune.evaluate(child, tasks=tasks, index="sizes")
    sizes = {(each.dimensions, each.reduction, each.numbers): each for each in scored.sizes}
    assert list(sizes)[:3] == [(6, "", "float"), (6, "", "int8"), (6, "", "binary")]
    assert len(sizes) == 3 + 2 * 2 * 3
    search = next(task for task in tasks if task.name == "Search")
    own = next(score.value for score in scored.scores if score.task == "Search")
    assert sizes[6, "", "float"].value == pytest.approx(own)
    assert [sizes[3, "PCA", numbers].bytes for numbers in ("float", "int8", "binary")] == [12, 3, 3 / 8]
    queries, documents = (
        np.stack([unit(child, text, "")[:3] for text in texts.values()])
        for texts in (search.queries, search.documents)
    )
    queries, documents = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, documents))
    keys, kinds = list(search.documents), {"float": documents}
    lowest, highest = documents.min(axis=0), documents.max(axis=0)
    steps = np.clip(np.floor((documents - lowest) / (highest - lowest) * 255), 0, 255)
    kinds["int8"] = lowest + steps * (highest - lowest) / 255
    kinds["binary"] = np.where(documents > 0, 1.0, -1.0)  # there are fewer documents than candidates
    for numbers, index in kinds.items():
        gains = [
            graded_ndcg([keys[place] for place in np.argsort(-(index @ query), kind="stable")], grades, 10)
            for query, grades in zip(queries, search.grades.values(), strict=True)
        ]
        assert sizes[3, "truncation", numbers].value == pytest.approx(np.mean(gains), abs=1e-6)
    assert [row[0] for row in size_rows(scored)].count("3") == 6
    assert json.loads(json.dumps(scored.as_dict()))["sizes"][0]["value"] == pytest.approx(own)


def test_a_binary_search_finds_candidates_by_hamming_distance_alone(model):
    """Of 60 passages the one that the query in fp32 is nearest to differs in most signs, so it is not found."""
    rest = torch.full((60, 4), 0.5)
    rest[7] = torch.tensor([0.99, -0.05, -0.05, -0.05])
    query = torch.tensor([[0.99, 0.05, 0.05, 0.05]])
    assert _rankings(query, rest, "float")[0][0] == 7
    assert 7 not in _rankings(query, rest, "binary")[0]


def test_principal_components_keep_what_lies_in_few_dimensions(new_model, tasks):
    """Embeddings that lie in a plane lose nothing in two dimensions by PCA, but do by truncation."""
    flat = new_model()
    plane = torch.linalg.qr(torch.randn(6, 3, generator=torch.Generator().manual_seed(2))).Q
    flat[0].embedding.weight.data @= plane @ plane.T
    sizes = {(e.dimensions, e.reduction): e.value for e in evaluate_sizes(flat, tasks) if e.numbers == "float"}
    assert sizes[3, "PCA"] == pytest.approx(sizes[6, ""], abs=1e-6)


def evaluate_sizes(model, tasks):
    return gaprune.evaluate(model, tasks=tasks, index="sizes").sizes


def test_sizes_need_a_retrieval_task(model, tasks):
    triples = [task for task in tasks if task.kind == "triplets"]
    with pytest.raises(ConfigError, match="none of the tasks searches"):
        gaprune.evaluate(model, tasks=triples, index="sizes")
