"""SparseGPT against a slow optimal brain surgeon that inverts the remaining Hessian at every column."""

from __future__ import annotations

import re

import pytest
import torch

from gaprune.criteria.inputs import WeightInputs
from gaprune.criteria.inverse import inverse_factor
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError, MeasurementError
from gaprune.statistics.sums import LinearStatistics
from gaprune.util.threshold import lowest

OUT, IN = 6, 16


def correlated_inputs(seed: int, *, tokens: int = 200, width: int = IN) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(width) + 0.6 * torch.randn(width, width, generator=generator)
    return torch.randn(tokens, width, generator=generator) @ mixing


def second_moment(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


def make_weight(seed: int, *, width: int = IN) -> torch.Tensor:
    return torch.randn(OUT, width, generator=torch.Generator().manual_seed(100 + seed))


def ridged(gram: torch.Tensor, damping: float = 0.01) -> torch.Tensor:
    gram = gram.double()
    return gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)


def slow_updates(weight: torch.Tensor, gram: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Left to right: remove a column's masked weights, let the columns to its right make up for them."""
    hessian, weight = ridged(gram), weight.double().clone()
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[column:, column:])
        for row in range(len(weight)):
            if not keep[row, column]:
                weight[row, column:] -= weight[row, column] / inverse[0, 0] * inverse[0]
                weight[row, column] = 0
    return weight


def slow_sweep(weight, gram, *, width, share_of, groups):
    """The same, choosing the mask too: at the head of every ``width`` columns, by w^2 over the inverse's diagonal."""
    hessian, weight = ridged(gram), weight.double().clone()
    columns = weight.shape[1]
    diagonal = [float(torch.linalg.inv(hessian[c:, c:])[0, 0]) for c in range(columns)]
    keep = torch.ones(weight.shape, dtype=torch.bool)
    for column in range(columns):
        if column % width == 0:
            stop = min(column + width, columns)
            cells = [(row, c) for row in range(len(weight)) for c in range(column, stop)]
            for members in groups(cells):
                ranked = sorted(members, key=lambda at: float(weight[at]) ** 2 / diagonal[at[1]])
                for at in ranked[: share_of(column, stop)]:
                    keep[at] = False
        inverse = torch.linalg.inv(hessian[column:, column:])
        for row in range(len(weight)):
            if not keep[row, column]:
                weight[row, column:] -= weight[row, column] / inverse[0, 0] * inverse[0]
                weight[row, column] = 0
    return keep, weight


def output_error(weight, updated, gram) -> float:
    """Mean squared change of the outputs."""
    change = (weight - updated).double()
    return float((change @ gram.double() * change).sum())


def solve(weight, gram, *, zeros=0, pattern=None, **options):
    return create("sparsegpt", options).solve(weight, gram, zeros=zeros, pattern=pattern)


@pytest.mark.parametrize("block", [1, 3, 4, 16, 128])
@pytest.mark.parametrize("zeros", [1, 17, 48, 90, OUT * IN])
def test_exact_number_of_zeros_that_are_zero(block, zeros):
    solution = solve(make_weight(0), second_moment(correlated_inputs(0)), zeros=zeros, block=block)
    assert int((~solution.keep).sum()) == zeros
    assert torch.equal(solution.weight == 0, ~solution.keep)
    assert torch.isfinite(solution.weight).all()


@pytest.mark.parametrize("pattern", [(2, 4), (1, 4), (4, 8), (3, 4)])
@pytest.mark.parametrize("block", [1, 6, 8, 128])
def test_exact_pattern(pattern, block):
    solution = solve(make_weight(1), second_moment(correlated_inputs(1)), pattern=pattern, block=block)
    assert (solution.keep.view(OUT, -1, pattern[1]).sum(2) == pattern[0]).all()
    assert torch.equal(solution.weight == 0, ~solution.keep)


@pytest.mark.parametrize("block", [4, 128])
def test_no_zeros_changes_nothing(block):
    weight = make_weight(2)
    solution = solve(weight, second_moment(correlated_inputs(2)), zeros=0, block=block)
    assert solution.keep.all()
    assert torch.equal(solution.weight, weight)


def test_the_weight_given_is_left_as_it_was():
    weight, gram = make_weight(2), second_moment(correlated_inputs(2))
    before = weight.clone(), gram.clone()
    solve(weight, gram, zeros=40)
    assert torch.equal(weight, before[0])
    assert torch.equal(gram, before[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [1, 4, 5, 128])
def test_updates_agree_with_the_slow_surgeon(seed, block):
    weight, gram = make_weight(seed), second_moment(correlated_inputs(seed))
    solution = solve(weight, gram, zeros=45, block=block)
    expected = slow_updates(weight, gram, solution.keep)
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", [(2, 4), (1, 4), (4, 8)])
def test_pattern_updates_agree_with_the_slow_surgeon(pattern):
    weight, gram = make_weight(5), second_moment(correlated_inputs(5))
    solution = solve(weight, gram, pattern=pattern, block=8)
    expected = slow_updates(weight, gram, solution.keep)
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, 4, 5, 16])
def test_choice_agrees_with_the_slow_surgeon(block):
    weight, gram, zeros = make_weight(6), second_moment(correlated_inputs(6)), 41
    keep, expected = slow_sweep(
        weight,
        gram,
        width=block,
        share_of=lambda start, stop: round(zeros * stop / IN) - round(zeros * start / IN),
        groups=lambda cells: [cells],
    )
    solution = solve(weight, gram, zeros=zeros, block=block)
    assert torch.equal(solution.keep, keep)
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [1, 8, 128])
def test_pattern_is_chosen_group_by_group_after_the_updates_before_it(block):
    weight, gram = make_weight(7), second_moment(correlated_inputs(7))
    keep, expected = slow_sweep(
        weight,
        gram,
        width=4,
        share_of=lambda start, stop: 2,
        groups=lambda cells: [[at for at in cells if at[0] == row] for row in range(OUT)],
    )
    solution = solve(weight, gram, pattern=(2, 4), block=block)
    assert torch.equal(solution.keep, keep)
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("column", [0, 6, 15])
def test_one_removed_weight_is_made_up_for_by_least_squares(column):
    weight, gram = make_weight(8), second_moment(correlated_inputs(8))
    weight[3, column] = 1e-3  # the cheapest of all, yet not nothing
    solution = solve(weight, gram, zeros=1)
    assert (~solution.keep).nonzero().tolist() == [[3, column]]
    hessian, expected, rest = ridged(gram), weight.double().clone(), slice(column + 1, None)
    expected[3, column] = 0
    made_up = torch.linalg.solve(hessian[rest, rest], hessian[rest, column]) * float(weight[3, column])
    expected[3, rest] += made_up
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-5, atol=1e-6)
    if column < 15:
        assert not torch.equal(solution.weight[3, rest], weight[3, rest])


def test_a_whole_column_is_made_up_for_by_least_squares():
    gram = second_moment(correlated_inputs(9))
    weight = make_weight(9)
    weight[:, 0] *= 1e-3
    solution = solve(weight, gram, zeros=OUT)
    assert not solution.keep[:, 0].any()
    hessian = ridged(gram)
    expected = weight[:, 1:].double() + torch.outer(
        weight[:, 0].double(), torch.linalg.solve(hessian[1:, 1:], hessian[1:, 0])
    )
    torch.testing.assert_close(solution.weight[:, 1:].double(), expected, rtol=1e-5, atol=1e-6)


def test_blocks_do_not_matter_where_they_choose_the_same():
    weight, gram = make_weight(10), second_moment(correlated_inputs(10))
    weight[2, 13] = 1e-3  # in the block whose share the only zero is
    whole, in_blocks = (solve(weight, gram, zeros=1, block=block) for block in (128, 8))
    assert torch.equal(whole.keep, in_blocks.keep)
    torch.testing.assert_close(whole.weight, in_blocks.weight, rtol=1e-5, atol=1e-6)


def test_every_block_gives_its_share():
    weight, gram = make_weight(11), second_moment(correlated_inputs(11))
    solution = solve(weight, gram, zeros=50, block=4)
    by_block = (~solution.keep).view(OUT, 4, 4).sum((0, 2)).tolist()
    assert by_block == [12, 13, 13, 12]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("block", [8, 128])
def test_output_error_is_lower_than_without_update_and_far_lower_than_magnitude(seed, sparsity, block):
    inputs = correlated_inputs(seed, tokens=1000, width=64)
    inputs *= 2 * torch.rand(64, generator=torch.Generator().manual_seed(seed))  # inputs of unlike size
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(50 + seed))
    gram, zeros = second_moment(inputs), round(sparsity * weight.numel())
    solution = solve(weight, gram, zeros=zeros, block=block)
    updated = output_error(weight, solution.weight, gram)
    measured = float(((weight - solution.weight) @ inputs.T).double().square().sum(0).mean())
    assert measured == pytest.approx(updated, rel=1e-3)
    assert updated < output_error(weight, weight * solution.keep, gram)
    assert updated < 0.7 * output_error(weight, weight * ~lowest(weight.abs(), zeros), gram)


def test_uncorrelated_inputs_need_no_update():
    weight, gram = make_weight(12), torch.diag(torch.rand(IN, generator=torch.Generator().manual_seed(0)) + 0.5)
    solution = solve(weight, gram, zeros=48)
    torch.testing.assert_close(solution.weight, weight * solution.keep)
    saliency = weight.square() * (gram.diagonal() + 0.01 * gram.diagonal().mean())
    assert torch.equal(~solution.keep, lowest(saliency, 48))


@pytest.mark.parametrize("tiny", [1.0, 1e-8])
def test_weights_of_dead_inputs_go_first_and_nothing_makes_up_for_them(tiny):
    inputs = correlated_inputs(13) * tiny
    inputs[:, [2, 9]] = 0
    weight = torch.rand(OUT, IN, generator=torch.Generator().manual_seed(13)) + 0.5
    solution = solve(weight, second_moment(inputs), zeros=2 * OUT)
    assert not solution.keep[:, [2, 9]].any()
    torch.testing.assert_close(solution.weight, weight * solution.keep, rtol=1e-6, atol=1e-6)


def test_fewer_tokens_than_inputs():
    inputs = correlated_inputs(14, tokens=3)
    assert int(torch.linalg.matrix_rank(inputs)) == 3
    weight, gram = make_weight(14), second_moment(inputs)
    solution = solve(weight, gram, zeros=48)
    assert int((~solution.keep).sum()) == 48
    expected = slow_updates(weight, gram, solution.keep)
    torch.testing.assert_close(solution.weight.double(), expected, rtol=1e-3, atol=1e-3)


def test_no_input_at_all_leaves_magnitude():
    weight = make_weight(15)
    solution = solve(weight, torch.zeros(IN, IN), zeros=30)
    assert torch.equal(~solution.keep, lowest(weight.abs(), 30))
    assert torch.equal(solution.weight, weight * solution.keep)


@pytest.mark.parametrize("gram", [torch.tensor([[1.0, 5.0], [5.0, 1.0]]), torch.full((2, 2), float("nan"))])
def test_not_positive_definite_is_an_error_that_names_the_matrix(gram):
    statistics = LinearStatistics("layer.3.down", tokens=1, gram_sum=gram)
    with pytest.raises(MeasurementError) as caught:
        create("sparsegpt").importance(WeightInputs(name="layer.3.down", weight=torch.ones(3, 2), domain=statistics))
    assert caught.value.problem == "layer.3.down: the second moments of the inputs are not positive definite."
    assert caught.value.remedy == "Use more triplets. For sparsegpt, raise the damping: sparsegpt:damping=0.05."
    with pytest.raises(MeasurementError, match="not positive definite"):
        solve(torch.ones(3, 2), gram, zeros=1)


def test_enough_damping_mends_it():
    factor = inverse_factor(torch.tensor([[1.0, 5.0], [5.0, 1.0]]), damping=10, name="w")
    assert torch.isfinite(factor).all()


def test_width_that_is_no_multiple_is_refused_with_the_whole_width():
    with pytest.raises(
        ConfigError, match=re.escape("granularity 2:4: the linear layer has 10 inputs, no multiple of 4.")
    ):
        solve(make_weight(0, width=10), torch.eye(10), pattern=(2, 4))


def test_factor_is_upper_and_squares_to_the_inverse():
    gram = second_moment(correlated_inputs(16))
    factor = inverse_factor(gram, damping=0.05, name="w").double()
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(ridged(gram, 0.05)), rtol=1e-3, atol=1e-4)


def test_importance_is_the_error_of_removing_a_weight_given_those_to_its_right():
    inputs, weight = correlated_inputs(17), make_weight(17)
    statistics = LinearStatistics("w", tokens=len(inputs), gram_sum=inputs.T @ inputs)
    importance = create("sparsegpt").importance(WeightInputs(name="w", weight=weight, domain=statistics))
    hessian = ridged(second_moment(inputs))
    for column in range(IN):
        expected = weight[:, column].double().square() / torch.linalg.inv(hessian[column:, column:])[0, 0]
        torch.testing.assert_close(importance[:, column].double(), expected, rtol=1e-4, atol=1e-6)


def test_gram_is_the_mean_over_the_data_asked_for(evidence):
    domain, general = (statistics.gram_sum / statistics.tokens for statistics in (evidence.domain, evidence.general))
    for calibration, expected in (("domain", domain), ("general", general), ("mix", (domain + general) / 2)):
        torch.testing.assert_close(create(f"sparsegpt-{calibration}").second_moments(evidence), expected)


def test_defaults_are_the_authors():
    assert create("sparsegpt").model_dump() == {"calibration": "domain", "damping": 0.01, "block": 128}
