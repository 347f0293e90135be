"""Counts are exact, whatever the ties; against sorting in plain Python."""

from __future__ import annotations

import random

import pytest
import torch

from gaprune.pruning.allocation import budget, shares
from gaprune.util.threshold import lowest


def lowest_by_sorting(values: list[float], count: int) -> list[bool]:
    """The first ``count`` of a stable sort."""
    chosen = sorted(range(len(values)), key=lambda index: (values[index], index))[:count]
    return [index in chosen for index in range(len(values))]


@pytest.mark.parametrize("seed", range(60))
def test_lowest_agrees_with_sorting_under_ties(seed):
    draw = random.Random(seed)  # noqa: S311
    size = draw.randint(1, 40)
    values = [float(draw.randint(-2, draw.choice((0, 3, 1000)))) for _ in range(size)]
    for count in {0, size, size // 2, draw.randint(0, size)}:
        assert lowest(torch.tensor(values), count).tolist() == lowest_by_sorting(values, count)


def test_lowest_of_equals_takes_the_first():
    mask = lowest(torch.zeros(3, 4), 5)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 4, [True] + [False] * 3, [False] * 4]


@pytest.mark.parametrize(("count", "expected"), [(0, False), (6, True)])
def test_lowest_none_and_all(count, expected):
    mask = lowest(torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, -1.0]]), count)
    assert mask.shape == (2, 3)
    assert (mask == expected).all()


def test_lowest_is_the_same_every_time_and_leaves_its_input():
    values = torch.randint(0, 5, (50, 40), generator=torch.Generator().manual_seed(0)).float()
    before = values.clone()
    first = lowest(values, 777)
    assert int(first.sum()) == 777
    assert all(torch.equal(first, lowest(values, 777)) for _ in range(3))
    assert torch.equal(values, before)


def test_lowest_reads_a_transposed_tensor_in_its_own_order():
    values = torch.arange(12.0).view(3, 4).T
    assert torch.equal(lowest(values, 5), values < 5)


def test_lowest_treats_negative_infinity_and_negative_zero_as_numbers():
    values = torch.tensor([0.0, -0.0, float("-inf"), 1.0])
    assert lowest(values, 2).tolist() == [True, False, True, False]


@pytest.mark.parametrize(("sparsity", "size", "removed"), [(0.5, 10, 5), (0.3, 10, 3), (0.65, 7, 5), (0.01, 10, 0)])
def test_budget_is_the_nearest_whole_number(sparsity, size, removed):
    assert budget(sparsity, size) == removed


@pytest.mark.parametrize("seed", range(300))
def test_shares_add_up_and_stay_within_one_of_proportion(seed):
    draw = random.Random(seed)  # noqa: S311
    sizes = [draw.choice((1, 2, 3, 7, draw.randint(1, 10_000))) for _ in range(draw.randint(1, 60))]
    sparsity = draw.choice((0.5, 1 / 3, 0.999, 0.001, draw.random()))
    counts = shares(sparsity, sizes)
    assert len(counts) == len(sizes)
    assert sum(counts) == round(sparsity * sum(sizes))
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - sparsity * size) <= 1 + 1e-9
        assert 0 <= count <= size


def test_shares_of_nothing():
    assert shares(0.5, []) == []


def test_shares_of_single_weights_alternate():
    assert sum(shares(0.5, [1] * 101)) == 50
    assert set(shares(0.5, [1] * 101)) == {0, 1}
