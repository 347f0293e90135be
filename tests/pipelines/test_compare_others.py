"""Other models beside a model: same tasks, measured speed, and an interval of the difference."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gaprune
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.models.load import load_model
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
    assert {"latency", "texts/s", "finance: difference"} <= set(header)
    assert [row[0] for row in rows] == [folder_of("bert").name, "shallow"], "the first may be a pruned model"
    assert json.loads(json.dumps(alone.as_dict()))["others"][0]["differences"].keys() == {"finance", "general"}


def test_the_difference_is_that_of_the_means_within_its_interval(alone):
    (other,) = alone.others
    for domain, found in other.beside.differences.items():
        assert found.value == pytest.approx(other.evaluation.mean(domain) - alone.dense.mean(domain))
        assert found.low <= found.value <= found.high
    assert other.beside.speed.latency > 0


def test_beside_criteria_every_row_has_cost_and_interval(folder_of, shallow, tasks):
    found = gaprune.compare(
        folder_of("bert"), criteria=["magnitude"], against=[shallow], tasks=tasks, general=GENERAL, device="cpu"
    )
    assert [row[0] for row in found.rows()] == ["dense", "magnitude", "shallow"]
    assert len({len(row) for row in found.rows()} | {len(found.header())}) == 1
    assert found.cells[0].beside is not None
    assert found.settings["against"] == ["shallow"]


def test_options_of_pruning_without_criteria_are_refused(folder_of, shallow, tasks):
    for options in ({"sparsity": (0.7,)}, {"seeds": 2}, {"domain": GENERAL}, {"triplets": 3}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            gaprune.compare(folder_of("bert"), against=[shallow], tasks=tasks, device="cpu", **options)
    with pytest.raises(ConfigError, match="twice"):
        gaprune.compare(folder_of("bert"), against=[shallow, shallow], tasks=tasks, device="cpu")


def test_the_interval_is_that_of_a_plain_loop_over_resamples(folder_of, shallow, tasks):
    found = find_tasks(tasks)
    first, second = (evaluate(load_model(each, device="cpu"), found) for each in (shallow, folder_of("bert")))
    task = next(each for each in found if each.kind == "retrieval")
    first, second = (gaprune_only(each, task) for each in (first, second))
    mine, its = first.scores[0].items, second.scores[0].items
    random = np.random.default_rng(3)
    draws = [
        np.mean([mine[row] for row in rows]) - np.mean([its[row] for row in rows])
        for rows in random.integers(len(mine), size=(50, len(mine)))
    ]
    interval = paired_bootstrap([task], first, second, resamples=50, seed=3)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))))


def gaprune_only(evaluation, task):
    """Return the score of one task."""
    return type(evaluation)(tuple(score for score in evaluation.scores if score.key == task.key))


def test_metrics_of_pairs_are_computed_again_for_every_resample(folder_of, tasks):
    found = find_tasks(tasks)
    scored = evaluate(load_model(folder_of("bert"), device="cpu"), found)
    for task, score in zip(found, scored.scores, strict=True):
        every = np.arange(len(score.items))
        assert task.resampled(score.items, every[None])[0] == pytest.approx(score.value, abs=1e-9), task.name
