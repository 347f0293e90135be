import re

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.prompts import Prompts


def test_accuracy_is_that_of_a_logistic_regression_on_normalised_embeddings(tmp_path, model, classification):
    (task,) = find_tasks(classification(tmp_path / "T"))
    score = task.evaluate(model, prompts=Prompts(query="gold fish "), batch_size=3)
    vectors = {side: normalize(model.encode([text for text, _ in getattr(task, side)])) for side in ("train", "test")}
    expected = LogisticRegression(C=10, max_iter=500).fit(vectors["train"], [label for _, label in task.train])
    right = [a == b for a, (_, b) in zip(expected.predict(vectors["test"]), task.test, strict=True)]
    assert score.value == sum(right) / len(right)
    assert 0 < score.value < 1, "the number must tell something"
    assert score.details["converged"] == 1


def test_a_regression_that_is_cut_short_is_reported(tmp_path, model, classification, monkeypatch):
    monkeypatch.setattr("gaprune.evaluation.quality.classification._ITERATIONS", 1)
    (task,) = find_tasks(classification(tmp_path / "T"))
    assert task.evaluate(model, prompts=Prompts(), batch_size=8).details["converged"] == 0


def test_labels_may_be_whole_numbers(tmp_path, classification):
    rows = [{"text": "cat", "label": 0}, {"text": "gold", "label": 1}]
    (task,) = find_tasks(classification(tmp_path / "T", rows, rows))
    assert task.test == (("cat", "0"), ("gold", "1"))


CAT, GOLD = {"text": "cat", "label": "animal"}, {"text": "gold", "label": "metal"}


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        (
            [CAT, GOLD],
            [CAT, {"text": "iron", "label": "metals"}],
            "test.jsonl:2: the label 'metals' is in no line of train.jsonl. Did you mean 'metal'?\nAdd texts",
        ),
        ([CAT, CAT], [CAT], "train.jsonl: all 2 texts have the label 'animal'; the task needs different ones.\nAdd"),
        ([CAT, {"text": "gold"}], [CAT], "train.jsonl:2: the column 'label' is missing; the columns are 'text'."),
        ([CAT, {"text": "gold", "label": 0.5}], [CAT], "train.jsonl:2: the column 'label' holds 0.5, not a text."),
        ([CAT, GOLD], [{"text": "", "label": "metal"}], "test.jsonl:1: the column 'text' holds an empty text."),
        ([CAT, GOLD], [], "test.jsonl: the file is empty."),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, classification, train, test, text):
    with pytest.raises(DataError, match=re.escape(text)):
        find_tasks(classification(tmp_path / "T", train, test))


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_a_missing_file_is_named(tmp_path, classification, name):
    (classification(tmp_path / "T") / name).unlink()
    with pytest.raises(DataError, match=f"T: the file {name}, which a classification task needs, is missing"):
        find_tasks(tmp_path)
