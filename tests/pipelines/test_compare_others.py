"""Other models beside a model: same tasks, measured speed, and an interval of the difference."""

from __future__ import annotations

import json

import pytest

import gaprune
from gaprune.errors import ConfigError
from gaprune.evaluation.comparison import Comparison
from gaprune.models.names import model_name
from gaprune.pipelines.others import names_of
from toys import GENERAL, tasks_folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return tasks_folder(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def shallow(folder_of, tmp_path_factory):
    """A model that was made elsewhere: other embeddings and less to compute."""
    out = tmp_path_factory.mktemp("made") / "shallow"
    gaprune.prune(folder_of("bert"), depth=1, criterion="magnitude", device="cpu", out=out)
    return out


@pytest.fixture(scope="module")
def alone(folder_of, shallow, tasks):
    return gaprune.compare(folder_of("bert"), against=[shallow], tasks=tasks, device="cpu")


def test_a_model_and_another_without_pruning(alone, folder_of, shallow, tasks):
    (other,) = alone.others
    for name, found in ((folder_of("bert"), alone.dense), (shallow, other.evaluation)):
        single = gaprune.evaluate(name, tasks=tasks, device="cpu")
        assert [(each.task, each.value) for each in found.scores] == [
            (each.task, each.value) for each in single.scores
        ]
    assert (other.name, alone.cells) == ("shallow", ())
    header, rows = alone.header(), alone.rows()
    assert header[0] == "model"
    assert {"one query: faster by", "batches: faster by", "finance: points [95 %]"} <= set(header)
    assert [row[0] for row in rows] == [model_name(folder_of("bert")), "shallow"], "the first may be a pruned model"
    assert json.loads(json.dumps(alone.as_dict()))["others"][0]["differences"].keys() == {"finance", "general"}


def test_the_difference_is_that_of_the_means_within_its_interval(alone):
    (other,) = alone.others
    for domain, found in other.differences.items():
        assert found.value == pytest.approx(other.evaluation.mean(domain) - alone.dense.mean(domain))
        assert found.low <= found.value <= found.high
    assert other.speed.latency > 0


def test_beside_criteria_every_row_has_cost_and_interval(folder_of, shallow, tasks):
    found = gaprune.compare(
        folder_of("bert"),
        criteria=["random", "magnitude"],
        seeds=2,
        against=[shallow],
        tasks=tasks,
        device="cpu",
    )
    assert [row[0] for row in found.rows()] == ["dense", "random", "magnitude", "shallow"]
    assert len({len(row) for row in found.rows()} | {len(found.header())}) == 1
    assert all(cell.speed is not None for cell in found.cells)
    assert found.settings["against"] == ["shallow"]
    assert [each.criterion for each in found.differences] == ["random", "magnitude"]
    for each in found.differences:
        for domain, difference in each.by_domain.items():
            mean = found.summary(each.criterion, each.sparsity, domain).mean
            assert difference.value == pytest.approx(mean - found.dense.mean(domain))
    assert Comparison.model_validate_json(json.dumps(found.as_dict())) == found


def test_options_of_pruning_without_criteria_are_refused(folder_of, shallow, tasks):
    for options in ({"sparsity": (0.7,)}, {"seeds": 2}, {"domain": GENERAL}, {"triplets": 3}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            gaprune.compare(folder_of("bert"), against=[shallow], tasks=tasks, device="cpu", **options)
    with pytest.raises(ConfigError, match="twice"):
        gaprune.compare(folder_of("bert"), against=[shallow, shallow], tasks=tasks, device="cpu")


def test_models_of_one_name_are_told_apart():
    assert [*names_of(["run2/small", "other"], "run1/small")] == ["run2/small", "other"]


def test_one_model_is_no_list_of_models(folder_of, tasks):
    with pytest.raises(ConfigError, match=r"against: this is one model"):
        gaprune.compare(folder_of("bert"), against=str(folder_of("bert")), tasks=tasks)
