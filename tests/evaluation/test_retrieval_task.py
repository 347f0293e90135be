import math
import re

import numpy as np
import pytest

from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.metrics import graded_ndcg
from gaprune.models.prompts import Prompts

NONE = Prompts()


def brute_force(model, task, query_prompt="", passage_prompt=""):
    """Rank and score in plain loops."""

    def vector(text):
        found = model.encode([text], prompt="")[0].astype(np.float64)
        return found / np.linalg.norm(found)

    documents = {key: vector(passage_prompt + text) for key, text in task.documents.items()}
    ndcg, recall, mrr = [], [], []
    for query, text in task.queries.items():
        near = vector(query_prompt + text)
        every = sorted(documents, key=lambda key: -float(near @ documents[key]))
        ranking, deep = every[:10], every[:100]
        grades = task.grades[query]
        gain = sum(grades.get(key, 0) / math.log2(rank + 2) for rank, key in enumerate(ranking))
        best = sum(g / math.log2(rank + 2) for rank, g in enumerate(sorted(grades.values(), reverse=True)[:10]))
        ndcg.append(gain / best)
        recall.append([len({*found} & {*grades}) / len(grades) for found in (ranking, deep)])
        mrr.append(next((1 / (rank + 1) for rank, key in enumerate(ranking) if key in grades), 0))
    shallow, deep = np.mean(recall, axis=0)
    return {"nDCG@10": np.mean(ndcg), "recall@10": shallow, "recall@100": deep, "MRR@10": np.mean(mrr)}


def test_metrics_equal_plain_loops(tmp_path, model, retrieval):
    (task,) = find_tasks(retrieval(tmp_path / "T"))
    score = task.evaluate(model, prompts=NONE, batch_size=3)
    expected = brute_force(model, task)
    assert 0 < expected["recall@10"] < 1 or expected["MRR@10"] < 1, "the numbers must tell something"
    assert dict(score.details) == pytest.approx(expected, abs=1e-6)
    assert score.value == score.details["nDCG@10"]
    assert (score.task, score.kind, score.metric, score.fingerprint) == ("T", "retrieval", "nDCG@10", task.fingerprint)
    assert score.seconds > 0


def test_queries_and_passages_get_their_prompts(tmp_path, model, retrieval):
    (task,) = find_tasks(retrieval(tmp_path / "T"))
    score = task.evaluate(model, prompts=Prompts(query="gold fish ", passage="acid four "), batch_size=8)
    assert dict(score.details) == pytest.approx(brute_force(model, task, "gold fish ", "acid four "), abs=1e-6)
    assert dict(score.details) != pytest.approx(brute_force(model, task), abs=1e-3)


def test_the_models_own_prompts_apply_and_can_be_switched_off(tmp_path, new_model, retrieval):
    model = new_model(prompts={"query": "gold fish ", "document": "acid four "})
    tasks = find_tasks(retrieval(tmp_path / "T"))
    own, off = evaluate(model, tasks), evaluate(model, tasks, prompts=NONE)
    assert own.mean() == pytest.approx(brute_force(model, tasks[0], "gold fish ", "acid four ")["nDCG@10"], abs=1e-6)
    assert off.mean() == pytest.approx(brute_force(model, tasks[0])["nDCG@10"], abs=1e-6)
    assert own.mean() != off.mean()


def test_cosine_is_used_whatever_the_length_of_embeddings(tmp_path, new_model, retrieval):
    model = new_model(similarity_fn_name="dot")
    (task,) = find_tasks(retrieval(tmp_path / "T"))
    score = task.evaluate(model, prompts=NONE, batch_size=8)
    assert dict(score.details) == pytest.approx(brute_force(model, task), abs=1e-6)


def test_only_judged_queries_and_grades_above_0_count(tmp_path, retrieval):
    (task,) = find_tasks(retrieval(tmp_path / "T"))
    assert list(task.queries) == ["q0", "q1", "q2", "q3"]
    assert task.grades["q0"] == {"d0": 1, "d5": 2}


def test_ndcg_is_linear_in_the_grade():
    grades = {"a": 3.0, "b": 1.0}
    expected = (1 / math.log2(2) + 3 / math.log2(4)) / (3 / math.log2(2) + 1 / math.log2(3))
    assert graded_ndcg(["b", "x", "a"], grades, 10) == pytest.approx(expected)
    assert graded_ndcg(["x", "y"], grades, 10) == 0
    assert graded_ndcg(["x", "a"], grades, 1) == 0


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_equals_trec_eval(k):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(k)
    for _ in range(20):
        documents = [f"d{number}" for number in range(12)]
        grades = {name: int(rng.integers(1, 5)) for name in rng.choice(documents, size=5, replace=False)}
        ranking = [str(name) for name in rng.permutation(documents)[:10]]
        run = {"q": {name: float(10 - rank) for rank, name in enumerate(ranking)}}
        judged = {"q": {str(name): grade for name, grade in grades.items()}}
        wanted = pytrec_eval.RelevanceEvaluator(judged, {f"ndcg_cut.{k}"}).evaluate(run)["q"][f"ndcg_cut_{k}"]
        assert graded_ndcg(ranking, grades, k) == pytest.approx(wanted)


def test_ids_may_be_numbers_and_titles_missing(tmp_path, retrieval):
    corpus = [
        {"_id": 1, "text": "cat"},
        {"_id": "2", "title": None, "text": "dog"},
        {"_id": 3, "title": "x", "text": ""},
    ]
    (task,) = find_tasks(retrieval(tmp_path / "T", corpus, [{"_id": 7, "text": "cat"}], ["7\t1\t1"]))
    assert task.documents == {"1": "cat", "2": "dog", "3": "x"}
    assert task.grades == {"7": {"1": 1.0}}


DOCUMENT, QUERY = {"_id": "d0", "title": "", "text": "cat"}, {"_id": "q0", "text": "cat"}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"corpus": [DOCUMENT, DOCUMENT]}, "corpus.jsonl:2: the id 'd0' was already used in line 1.\nGive every line"),
        ({"queries": [QUERY, QUERY]}, "queries.jsonl:2: the id 'q0' was already used in line 1."),
        (
            {"corpus": [{"_id": "d0", "title": 3, "text": "a"}]},
            "corpus.jsonl:1: the column 'title' holds 3, not a text.",
        ),
        ({"corpus": [{"_id": "d0", "title": "a"}]}, "corpus.jsonl:1: the column 'text' is missing"),
        ({"corpus": [{"_id": True, "text": "a"}]}, "corpus.jsonl:1: the column '_id' holds True, not a text."),
        ({"corpus": []}, "corpus.jsonl: the file is empty."),
        ({"queries": [{"_id": "q0", "text": " "}]}, "queries.jsonl:1: the column 'text' holds an empty text."),
        ({"qrels": ["q0,d0,1"]}, "test.tsv:2: has 1 columns, not 3.\nWrite query-id"),
        ({"qrels": ["q0\td0\tyes"]}, "test.tsv:2: the score 'yes' is not a number.\nWrite 1 for"),
        ({"qrels": ["q0\td0\tnan"]}, "test.tsv:2: the score 'nan' is not a number."),
        (
            {"qrels": ["q00\td0\t1"]},
            "test.tsv:2: the query 'q00' is unknown. Did you mean 'q0'?\nAdd it to queries.jsonl",
        ),
        ({"qrels": ["q0\td7\t1"]}, "test.tsv:2: the document 'd7' is unknown."),
        (
            {"qrels": ["q0\td0\t1", "q0\td0\t2"]},
            "test.tsv:3: query 'q0' and document 'd0' have another score above.",
        ),
        ({"qrels": ["q0\td0\t0"]}, "test.tsv: no document is relevant to any query.\nAdd lines"),
        ({"header": "q0\td0\t1"}, "test.tsv:1: the header is missing."),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, retrieval, parts, text):
    complete = {"corpus": [DOCUMENT], "queries": [QUERY], "qrels": ["q0\td0\t1"], **parts}
    with pytest.raises(DataError, match=re.escape(text)):
        find_tasks(retrieval(tmp_path / "T", **complete))


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(tmp_path, retrieval, name):
    folder = retrieval(tmp_path / "T")
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"T: the file {name}, which a retrieval task needs, is missing"):
        find_tasks(tmp_path)
