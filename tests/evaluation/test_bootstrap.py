"""Intervals of differences against a plain loop that computes every metric again for every resample."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from gaprune.evaluation.quality.bootstrap import paired_bootstrap
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate

KINDS = {"STS", "pair classification", "retrieval", "classification"}


def metric_of(task, items):
    """Return the metric of some of the items of a task; NaN where it is not defined."""
    if task.kind == "STS":
        scores = np.array(task.scores)
        return lambda rows: spearmanr(scores[rows], items[rows]).statistic if np.ptp(scores[rows]) else np.nan
    if task.kind == "pair classification":
        labels = np.array(task.scores)
        return lambda rows: average_precision_score(labels[rows], items[rows]) if labels[rows].any() else np.nan
    return lambda rows: np.mean([items[row] for row in rows])


@pytest.fixture
def tasks(tmp_path, write, retrieval, classification, graded_pairs):
    """One task of each kind that has a metric of its own; two pairs have one similarity and different scores."""
    tied = [*graded_pairs, {**graded_pairs[0], "score": 0.2}]
    write(tmp_path / "Graded.jsonl", tied)
    write(tmp_path / "Matching.jsonl", [{**row, "score": int(place % 3 == 0)} for place, row in enumerate(tied)])
    retrieval(tmp_path / "Search")
    classification(tmp_path / "Labels")
    return find_tasks(tmp_path)


@pytest.fixture
def scored(tasks, new_model):
    """Scores of four models."""
    return [evaluate(new_model(seed), tasks) for seed in range(4)]


def loop(task, children, parent, *, resamples, seed):
    """Return the ends of the interval."""
    metrics = [
        metric_of(task, next(score.items for score in each.scores if score.key == task.key))
        for each in (*children, parent)
    ]
    items = len(parent.scores[[score.key for score in parent.scores].index(task.key)].items)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        rows = random.integers(items, size=items)
        values = [metric(rows) for metric in metrics]
        found.append(np.mean(values[:-1]) - values[-1])
    return np.nanquantile(found, (0.025, 0.975))


def test_every_kind_of_task_has_the_interval_of_a_plain_loop(tasks, scored):
    assert {task.kind for task in tasks} == KINDS
    for task in tasks:
        found = paired_bootstrap([task], scored[:1], scored[-1], resamples=200, seed=3)
        assert (found.low, found.high) == pytest.approx(loop(task, scored[:1], scored[-1], resamples=200, seed=3))
        assert found.low < found.high, task.name


def test_over_samples_the_mean_of_every_resample_counts(tasks, scored):
    *children, parent = scored
    for task in tasks:
        found = paired_bootstrap([task], children, parent, resamples=200, seed=3)
        assert (found.low, found.high) == pytest.approx(loop(task, children, parent, resamples=200, seed=3))
    found = paired_bootstrap(tasks, children, parent)
    assert found.value == pytest.approx(np.mean([each.mean() for each in children]) - parent.mean())
    alone = [paired_bootstrap(tasks, [each], parent) for each in children]
    assert found.high - found.low < np.mean([each.high - each.low for each in alone])


def test_the_other_model_may_have_been_made_several_times_too(tasks, scored):
    *children, parent = scored
    there, back = paired_bootstrap(tasks, children, parent), paired_bootstrap(tasks, [parent], children)
    assert (back.low, back.value, back.high) == pytest.approx((-there.high, -there.value, -there.low))


def test_the_mean_of_models_that_err_apart_is_surer_than_each(tasks, scored):
    """A model and its opposite: their mean does not vary, which the mean of the ends of intervals would not show."""
    (task,) = (task for task in tasks if task.kind == "classification")
    (parent,) = (score for score in scored[0].scores if score.key == task.key)
    items = np.arange(len(parent.items)) % 2.0
    mine, opposite, its = (
        type(scored[0])((type(parent)(**{**vars(parent), "items": values, "value": float(values.mean())}),))
        for values in (items, 1 - items, np.zeros(len(items)))
    )
    found = paired_bootstrap([task], [mine, opposite], its)
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))
    alone = paired_bootstrap([task], [mine], its)
    assert alone.low < 0.5 < alone.high


def test_many_items_are_drawn_in_parts(tasks, scored, monkeypatch):
    whole = paired_bootstrap(tasks, scored[:1], scored[-1], resamples=50)
    monkeypatch.setattr("gaprune.evaluation.quality.bootstrap._NUMBERS", 40)
    assert paired_bootstrap(tasks, scored[:1], scored[-1], resamples=50) == whole
