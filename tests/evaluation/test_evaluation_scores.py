import json

import pytest

from gaprune.errors import ConfigError
from gaprune.evaluation.quality.scores import Evaluation, Score


def score(task, domain, value, fingerprint="f"):
    return Score(
        task=task, domain=domain, kind="STS", metric="Spearman", value=value, seconds=2.0, fingerprint=fingerprint
    )


@pytest.fixture
def evaluation():
    return Evaluation((score("a", "x", 0.5), score("b", "x", 0.7), score("c", "y", 0.9)))


@pytest.fixture
def parent():
    return Evaluation((score("c", "y", 1.0), score("b", "x", 0.8), score("a", "x", 0.4)))


def test_means_by_domain_and_over_all_tasks(evaluation, parent):
    assert evaluation.domains == ("x", "y")
    assert evaluation.mean("x") == pytest.approx(0.6)
    assert evaluation.mean() == pytest.approx(0.7)
    assert evaluation.parent_mean() is None
    both = evaluation.against(parent)
    assert both.parent_mean("x") == pytest.approx(0.6)
    assert both.parent_mean() == pytest.approx(2.2 / 3)


def test_an_unknown_domain_is_explained(evaluation):
    with pytest.raises(ConfigError, match=r"domain: no evaluated task belongs to 'z'\.\nThe domains are 'x', 'y'\."):
        evaluation.mean("z")


def test_the_parent_is_put_beside_by_task_not_by_order(evaluation, parent):
    both = evaluation.against(parent)
    assert [each.parent for each in both.scores] == [0.4, 0.8, 1.0]
    assert [each.change for each in both.scores] == pytest.approx([0.1, -0.1, -0.1])
    assert [each.parent for each in evaluation.scores] == [None] * 3
    assert evaluation.scores[0].change is None


@pytest.mark.parametrize(
    ("scores", "names"),
    [
        ((score("a", "x", 1),), "x/b, y/c"),
        ((score("a", "x", 1), score("b", "x", 1), score("c", "y", 1), score("d", "", 1)), "d"),
        ((score("a", "x", 1), score("b", "x", 1, "other"), score("c", "y", 1)), "x/b"),
    ],
)
def test_other_tasks_cannot_be_compared(evaluation, scores, names):
    with pytest.raises(
        ConfigError, match=rf"not evaluated on the same tasks; they differ in {names}\.\nEvaluate both"
    ):
        evaluation.against(Evaluation(scores))


def test_it_survives_json(evaluation, parent):
    both = evaluation.against(parent)
    saved = json.loads(json.dumps(both.as_dict()))
    assert Evaluation(tuple(Score(**score) for score in saved["scores"])) == both


def test_rows_are_tasks_and_means(evaluation, parent):
    rows = evaluation.against(parent).rows()
    assert [(row["domain"], row["task"], row["kind"]) for row in rows] == [
        ("x", "a", "STS"),
        ("x", "b", "STS"),
        ("x", "", "mean"),
        ("y", "c", "STS"),
    ], "domain and general text have no mean in common"
    assert [row["value"] for row in rows] == pytest.approx([0.5, 0.7, 0.6, 0.9])
    mean = ("x", "", "mean", "", pytest.approx(0.6), pytest.approx(0.6), pytest.approx(0), None)
    names = ("domain", "task", "kind", "metric", "value", "parent", "change", "interval")
    assert {name: rows[2][name] for name in names} == dict(zip(names, mean, strict=True))


def test_rows_of_one_domain_have_one_mean(evaluation):
    rows = Evaluation(evaluation.scores[:2]).rows()
    assert [row["kind"] for row in rows] == ["STS", "STS", "mean"]
    assert rows[0]["parent"] is rows[0]["change"] is None
