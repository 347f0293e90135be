from __future__ import annotations

import pytest
import torch

from gaprune.errors import MeasurementError
from gaprune.statistics.sums import LinearStatistics, Statistics


@pytest.fixture
def statistics():
    return LinearStatistics(
        "a",
        samples=2,
        triplets=4,
        tokens=8,
        fisher_sum=torch.full((2, 3), 8.0),
        gradient_sum=torch.full((2, 3), 8.0),
        gram_sum=torch.diag(torch.tensor([8.0, 16.0, 24.0])),
        input_square_sum=torch.tensor([8.0, 16.0, 24.0]),
    )


def test_means_divide_by_what_was_summed(statistics):
    assert statistics.fisher.unique().item() == 4
    assert statistics.gradient.unique().item() == 2
    assert statistics.input_square.tolist() == [1, 2, 3]


def test_what_one_side_lacks_the_sum_lacks(statistics):
    total = statistics + LinearStatistics("a", samples=1, triplets=1, tokens=1, fisher_sum=torch.ones(2, 3))
    assert total.fisher.unique().item() == 3
    with pytest.raises(MeasurementError, match="a: gram was not measured") as caught:
        _ = total.gram
    assert caught.value.remedy == "Measure with statistics={'gram'}."


def test_adding_leaves_both_as_they_were(statistics):
    _ = statistics + statistics
    assert statistics.fisher_sum.unique().item() == 8
    assert statistics.samples == 2


def test_different_matrices_do_not_add(statistics):
    with pytest.raises(ValueError, match="statistics of a and b do not add"):
        _ = statistics + LinearStatistics("b")


def test_signals_are_a_mapping_in_model_order(statistics):
    both = Statistics([{"b": LinearStatistics("b"), "a": statistics}], "print")
    assert list(both) == ["b", "a"]
    assert len(both) == 2
    assert both["a"] is statistics
    assert both.fingerprint == "print"


def test_the_fingerprint_is_the_triplets(bert, toy_triplets, measured):
    assert measured(bert, toy_triplets, statistics={"gram"}).fingerprint == toy_triplets.fingerprint


@pytest.mark.parametrize("statistic", ["fisher", "gradient", "gram", "input_square"])
def test_sums_of_nothing_have_no_mean(statistic):
    empty = LinearStatistics("layer", **{f"{statistic}_sum": torch.zeros(2, 2)})
    with pytest.raises(MeasurementError, match=rf"^layer: {statistic} was not measured\."):
        getattr(empty, statistic)
