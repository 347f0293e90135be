import re

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score

from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.prompts import Prompts

USELESS = Prompts(query="gold fish ", passage="acid four ")
"""Prompts that must not be used: sentences of a pair have no role."""


def cosines(model, rows):
    first, second = (model.encode([row[side] for row in rows]) for side in ("sentence1", "sentence2"))
    return [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)]


def test_graded_pairs_give_the_rank_correlation(tmp_path, model, write, graded_pairs):
    (task,) = find_tasks(write(tmp_path / "T.jsonl", graded_pairs))
    score = task.evaluate(model, prompts=USELESS, batch_size=2)
    near, gold = cosines(model, graded_pairs), [row["score"] for row in graded_pairs]
    assert score.value == pytest.approx(spearmanr(gold, near).statistic, abs=1e-6)
    assert score.details["Pearson"] == pytest.approx(pearsonr(gold, near).statistic, abs=1e-5)
    assert abs(score.value) < 1, "the number must tell something"


def test_pairs_of_0_and_1_give_the_average_precision(tmp_path, model, write, graded_pairs):
    rows = [{**row, "score": place % 2} for place, row in enumerate(graded_pairs)]
    (task,) = find_tasks(write(tmp_path / "T.jsonl", rows))
    score = task.evaluate(model, prompts=USELESS, batch_size=2)
    expected = average_precision_score([row["score"] for row in rows], cosines(model, rows))
    assert (score.metric, score.value) == ("AP", pytest.approx(expected, abs=1e-6))
    assert expected < 1
    assert 0.5 < score.details["accuracy"] <= 1
    assert 0 < score.details["F1"] <= 1


def test_pair_classification_equals_sentence_transformers(tmp_path, model, write, graded_pairs):
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    rows = [{**row, "score": int(place % 3 > 0)} for place, row in enumerate(graded_pairs)]
    (task,) = find_tasks(write(tmp_path / "T.jsonl", rows))
    sides = ([row[name] for row in rows] for name in ("sentence1", "sentence2", "score"))
    evaluator = BinaryClassificationEvaluator(*sides, similarity_fn_names=["cosine"], write_csv=False)
    wanted = evaluator(model)
    found = task.evaluate(model, prompts=USELESS, batch_size=2).details
    for name, key in (("AP", "cosine_ap"), ("accuracy", "cosine_accuracy"), ("F1", "cosine_f1")):
        assert found[name] == pytest.approx(wanted[key], abs=1e-6)


def test_the_default_prompt_of_the_model_is_used(tmp_path, new_model, write, graded_pairs):
    model = new_model(prompts={"sts": "gold fish "}, default_prompt_name="sts")
    (task,) = find_tasks(write(tmp_path / "T.jsonl", graded_pairs))
    score = task.evaluate(model, prompts=Prompts(), batch_size=2)
    expected = spearmanr([row["score"] for row in graded_pairs], cosines(model, graded_pairs)).statistic
    assert score.value == pytest.approx(expected, abs=1e-6)


def test_a_model_that_makes_all_pairs_equal_correlates_with_nothing(tmp_path, new_model, write, graded_pairs):
    model = new_model()
    model[0].embedding.weight.data.fill_(1.0)
    (task,) = find_tasks(write(tmp_path / "T.jsonl", graded_pairs))
    assert task.evaluate(model, prompts=Prompts(), batch_size=2).details == {"Spearman": 0.0, "Pearson": 0.0}


PAIR = {"sentence1": "cat", "sentence2": "dog", "score": 1}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([PAIR, {**PAIR, "score": "0"}], "T.jsonl:2: the column 'score' holds '0', not a finite number.\nWrite it"),
        ([PAIR, {**PAIR, "score": True}], "T.jsonl:2: the column 'score' holds True, not a finite number."),
        ([PAIR, {**PAIR, "score": float("nan")}], "T.jsonl:2: the column 'score' holds nan, not a finite number."),
        ([PAIR, {**PAIR, "score": 10**400}], "T.jsonl:2: the column 'score' holds 1000"),
        ([PAIR, {**PAIR, "score": 0, "sentence2": ""}], "T.jsonl:2: the column 'sentence2' holds an empty text."),
        ([PAIR, {"sentence1": "cat", "score": 0}], "T.jsonl:2: the column 'sentence2' is missing; the columns are"),
        ([PAIR, PAIR], "T.jsonl: all 2 scores are 1; the task needs different ones.\nAdd pairs"),
    ],
)
def test_bad_pairs_are_refused_with_their_place(tmp_path, write, rows, text):
    with pytest.raises(DataError, match=re.escape(text)):
        find_tasks(write(tmp_path / "T.jsonl", rows))
