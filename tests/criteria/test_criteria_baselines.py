"""The baselines, one weight at a time in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gaprune.criteria.registry import create

EACH = ("domain", "general", "mix")


def cells(tensor):
    return [(row, column) for row in range(tensor.shape[0]) for column in range(tensor.shape[1])]


def pooled(evidence, calibration, mean):
    """The mean of one kind of data, or of both halves."""
    one = {"domain": mean(evidence.domain), "general": mean(evidence.general)}
    return (one["domain"] + one["general"]) / 2 if calibration == "mix" else one[calibration]


def check(importance, evidence, expected):
    assert importance.shape == evidence.weight.shape
    assert importance.dtype == torch.float32
    for row, column in cells(evidence.weight):
        wanted = expected(row, column, float(evidence.weight[row, column]))
        assert float(importance[row, column]) == pytest.approx(wanted, rel=1e-5, abs=1e-9), (row, column)


def fisher(row, column):
    return lambda statistics: float(statistics.fisher_sum[row, column]) / statistics.samples


def gradient(row, column):
    return lambda statistics: float(statistics.gradient_sum[row, column]) / statistics.triplets


def square(column):
    return lambda statistics: float(statistics.gram_sum[column, column]) / statistics.tokens


def test_magnitude(evidence):
    check(create("magnitude").importance(evidence), evidence, lambda row, column, weight: abs(weight))


@pytest.mark.parametrize("calibration", EACH)
def test_fisher(evidence, calibration):
    importance = create(f"fisher-{calibration}").importance(evidence)
    check(importance, evidence, lambda row, column, _: pooled(evidence, calibration, fisher(row, column)))


@pytest.mark.parametrize("calibration", EACH)
def test_obd(evidence, calibration):
    importance = create(f"obd-{calibration}").importance(evidence)
    check(
        importance,
        evidence,
        lambda row, column, weight: pooled(evidence, calibration, fisher(row, column)) * weight * weight,
    )


@pytest.mark.parametrize("calibration", EACH)
def test_taylor(evidence, calibration):
    importance = create(f"taylor-{calibration}").importance(evidence)
    check(
        importance,
        evidence,
        lambda row, column, weight: abs(pooled(evidence, calibration, gradient(row, column)) * weight),
    )


@pytest.mark.parametrize("calibration", EACH)
def test_wanda(evidence, calibration):
    importance = create(f"wanda-{calibration}").importance(evidence)
    check(
        importance,
        evidence,
        lambda row, column, weight: abs(weight) * math.sqrt(pooled(evidence, calibration, square(column))),
    )


@pytest.mark.parametrize("name", ["activation", "fisher", "obd", "taylor", "wanda", "sparsegpt"])
def test_domain_is_the_default_and_the_three_differ(evidence, name):
    by_name = {calibration: create(f"{name}-{calibration}").importance(evidence) for calibration in EACH}
    assert torch.equal(create(name).importance(evidence), by_name["domain"])
    assert not torch.allclose(by_name["domain"], by_name["general"])
    assert not torch.allclose(by_name["mix"], by_name["general"])


def test_random_is_reproducible_uniform_and_depends_on_seed_and_name(evidence):
    random = create("random").importance
    first = random(evidence)
    assert torch.equal(first, random(evidence))
    assert torch.equal(first, random(replace(evidence, weight=-evidence.weight, domain=None, general=None)))
    assert not torch.equal(first, random(replace(evidence, seed=14)))
    assert not torch.equal(first, random(replace(evidence, name="layer.1.up")))
    large = random(replace(evidence, weight=torch.zeros(200, 300)))
    assert large.shape == (200, 300)
    assert 0 <= float(large.min()) < 0.001
    assert 0.999 < float(large.max()) < 1
    assert float(large.mean()) == pytest.approx(0.5, abs=0.005)


def test_random_leaves_the_global_generator_alone(evidence):
    state = torch.get_rng_state()
    create("random").importance(evidence)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "allocation"),
    [
        ("random", "global"),
        ("magnitude", "global"),
        ("fisher", "global"),
        ("obd", "global"),
        ("taylor", "global"),
        ("dai", "global"),
        ("dai-paper", "global"),
        ("wanda", "row"),
        ("sparsegpt", "matrix"),
    ],
)
def test_default_allocation_is_the_authors(name, allocation):
    assert create(name).default_allocation == allocation
