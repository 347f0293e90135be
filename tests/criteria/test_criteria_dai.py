"""The paper's DAI and ours, by loops in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gaprune.criteria.registry import create


def lists(tensor) -> list[list[float]]:
    return tensor.double().tolist()


def norm(matrix) -> float:
    return math.sqrt(sum(value * value for row in matrix for value in row))


def means(evidence):
    """Fisher and gradient of both kinds of data, from the sums."""
    domain, general = evidence.domain, evidence.general
    return (
        lists(domain.fisher_sum / domain.samples),
        lists(general.fisher_sum / general.samples),
        lists(domain.gradient_sum / domain.triplets),
        lists(general.gradient_sum / general.triplets),
    )


def box(matrix) -> list[list[float]]:
    """3x3 means: a ninth of the sum of the neighbourhood, nothing beyond the border."""
    rows, columns = len(matrix), len(matrix[0])
    return [
        [
            sum(
                matrix[near][beside]
                for near in range(row - 1, row + 2)
                for beside in range(column - 1, column + 2)
                if 0 <= near < rows and 0 <= beside < columns
            )
            / 9
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def paper(evidence, *, alpha=0.2, beta=1.0, gamma=0.5, alignment="weight"):
    """The formula of SCIENCE.md, and the factors before they are clamped."""
    fisher_domain, fisher_general, domain, general = means(evidence)
    scale = norm(domain) * norm(general)
    products = [[a * b / scale for a, b in zip(*pair, strict=True)] for pair in zip(domain, general, strict=True)]
    cosine = sum(map(sum, products))
    smoothed = box(products) if alignment == "weight" else [[cosine] * len(products[0])] * len(products)
    factors = [[1 + alpha * s for s in row] for row in smoothed]
    values = [
        [
            ((f_domain - beta * f_general) * abs(weight) + gamma * math.sqrt(abs(weight))) * min(max(factor, 0.8), 1.2)
            for f_domain, f_general, weight, factor in zip(*row, strict=True)
        ]
        for row in zip(fisher_domain, fisher_general, lists(evidence.weight), factors, strict=True)
    ]
    return values, [factor for row in factors for factor in row]


def assert_close(tensor, values):
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor, torch.tensor(values, dtype=torch.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alignment": "matrix"},
        {"alpha": 5.0},
        {"alpha": 0.0, "beta": 0.3, "gamma": 0.0},
        {"beta": 2.5, "gamma": 1.5, "alpha": 1.0, "alignment": "matrix"},
    ],
)
def test_paper_formula(evidence, options):
    assert_close(create("dai-paper", options).importance(evidence), paper(evidence, **options)[0])


def test_paper_defaults_are_the_published_constants():
    assert create("dai-paper").model_dump() == {"alpha": 0.2, "beta": 1.0, "gamma": 0.5, "alignment": "weight"}


def test_paper_factor_is_clamped_on_both_sides(evidence):
    options = {"alpha": 60.0, "beta": 0.2}
    values, factors = paper(evidence, **options)
    assert min(factors) < 0.8
    assert max(factors) > 1.2
    importance = create("dai-paper", options).importance(evidence)
    assert_close(importance, values)
    unaligned = create("dai-paper", options | {"alpha": 0.0}).importance(evidence)
    ratios = (importance / unaligned).flatten()
    assert float(ratios.min()) == pytest.approx(0.8, rel=1e-4)
    assert float(ratios.max()) == pytest.approx(1.2, rel=1e-4)


def test_paper_border_counts_zeros_beyond_it(evidence):
    """Equal gradients everywhere: a corner sees four of nine neighbours, an edge six, the inside all."""
    rows, columns = evidence.weight.shape
    flat = {
        side: replace(getattr(evidence, side), gradient_sum=torch.ones(rows, columns))
        for side in ("domain", "general")
    }
    even = replace(evidence, **flat)
    options = {"alpha": 1.0, "beta": 0.0}
    factor = create("dai-paper", options).importance(even) / create("dai-paper", options | {"alpha": 0.0}).importance(
        even
    )
    unit = 1 / (rows * columns)
    assert float(factor[0, 0]) == pytest.approx(1 + unit * 4 / 9, rel=1e-5)
    assert float(factor[0, 2]) == pytest.approx(1 + unit * 6 / 9, rel=1e-5)
    assert float(factor[1, 2]) == pytest.approx(1 + unit, rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 2), (1, 1)])
def test_paper_takes_narrow_matrices(evidence, shape):
    def cut(tensor):
        return tensor.flatten()[: shape[0] * shape[1]].view(shape)

    def narrow(statistics):
        return replace(statistics, fisher_sum=cut(statistics.fisher_sum), gradient_sum=cut(statistics.gradient_sum))

    small = replace(
        evidence, weight=cut(evidence.weight), domain=narrow(evidence.domain), general=narrow(evidence.general)
    )
    assert_close(create("dai-paper", {"alpha": 2.0}).importance(small), paper(small, alpha=2.0)[0])


@pytest.mark.parametrize("alignment", ["weight", "matrix"])
def test_paper_without_gradients_has_no_alignment(evidence, alignment):
    still = replace(evidence, domain=replace(evidence.domain, gradient_sum=torch.zeros_like(evidence.weight)))
    options = {"alignment": alignment, "alpha": 5.0}
    unaligned = create("dai-paper", {"alpha": 0.0}).importance(evidence)
    assert torch.equal(create("dai-paper", options).importance(still), unaligned)


def ours(evidence, *, general_share=3 / 13, tempering=0.5, alpha=0.0, centred=True):
    """Row curvature to a power times the input's share of the variances times the square of the weight."""
    domain, other, weights = evidence.domain, evidence.general, lists(evidence.weight)

    def mixed(quantity):
        first, second = ((getattr(each, f"{quantity}_sum") / each.tokens).tolist() for each in (domain, other))
        return [(1 - general_share) * a + general_share * b for a, b in zip(first, second, strict=True)]

    columns, rows = mixed("input_square"), mixed("output_square")
    if centred and evidence.writes_residual:
        columns = [square - mean**2 for square, mean in zip(columns, mixed("input"), strict=True)]
    mean = sum(columns) / len(columns)
    cosines = [
        sum(a * b for a, b in zip(*pair, strict=True)) / (norm([pair[0]]) * norm([pair[1]]))
        for pair in zip(lists(domain.gradient_sum), lists(other.gradient_sum), strict=True)
    ]
    return [
        [
            (rows[r] * mean) ** tempering * columns[c] / mean * weights[r][c] ** 2 * (1 + alpha * cosines[r])
            for c in range(len(columns))
        ]
        for r in range(len(rows))
    ]


@pytest.mark.parametrize("tempering", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("general_share", [0.0, 1 / 6, 0.75])
@pytest.mark.parametrize("alpha", [0.0, 0.9])
@pytest.mark.parametrize("swaps", [0, 128])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("writes_residual", [True, False])
def test_our_formula(evidence, tempering, general_share, alpha, swaps, centred, writes_residual):
    evidence = replace(evidence, writes_residual=writes_residual)
    options = {"tempering": tempering, "general_share": general_share, "alpha": alpha, "centred": centred}
    assert_close(create("dai", options | {"swaps": swaps}).importance(evidence), ours(evidence, **options))


def test_our_defaults(evidence):
    assert create("dai").model_dump() == {
        "general_share": 3 / 13, "tempering": 0.5, "swaps": 128, "centred": True, "reconstruction_aware": True,
        "alpha": 0.0, "preservation": 5.0,
    }  # fmt: skip
    assert_close(create("dai").importance(evidence), ours(evidence))


def test_untempered_rows_compare_as_the_curvature_says(evidence):
    """At a power of one it is the second-order change by the Kronecker form: ``D_ii A_jj w^2``."""
    importance = create("dai", {"tempering": 1, "general_share": 0, "centred": False}).importance(evidence)
    rows, columns = evidence.domain.output_square, evidence.domain.input_square
    torch.testing.assert_close(importance, rows[:, None] * columns * evidence.weight.square())


def test_dead_inputs_cost_nothing(evidence):
    nothing = {name: torch.zeros_like(getattr(evidence.domain, name)) for name in ("gram_sum", "input_sum")}
    dead = replace(evidence.domain, **nothing)
    importance = create("dai", {"general_share": 0}).importance(replace(evidence, domain=dead))
    assert torch.equal(importance, torch.zeros_like(evidence.weight))


@pytest.mark.parametrize("swaps", [0, 128])
def test_inputs_that_never_change_cost_nothing_where_they_are_added_to_the_stream(evidence, swaps):
    """What rounding leaves of the variance, on either side of zero, is next to nothing."""
    tokens = evidence.domain.tokens
    value = torch.linspace(0.1, 1.7, evidence.weight.shape[1])
    gram = torch.outer(value, value) * tokens
    still = replace(
        evidence.domain, gram_sum=gram, input_square_sum=gram.diagonal() * (1 - 1e-6), input_sum=value * tokens
    )
    dai = create("dai", {"general_share": 0, "swaps": swaps})
    assert dai.importance(replace(evidence, domain=still)).abs().max() < 1e-3
    assert dai.importance(replace(evidence, domain=still, writes_residual=False)).min() > 1e-3


def test_alignment_lifts_rows_that_agree_and_lowers_rows_that_do_not(evidence):
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    opposed = replace(evidence.general, gradient_sum=evidence.domain.gradient_sum * sign)
    importance = create("dai", {"alpha": 0.5}).importance(replace(evidence, general=opposed))
    torch.testing.assert_close(
        importance, create("dai").importance(replace(evidence, general=opposed)) * (1 + 0.5 * sign)
    )


def test_the_choice_is_refined_on_mixed_moments(evidence):
    plain, guarded = (create("dai", {"general_share": share}) for share in (0.0, 0.75))
    within = replace(evidence, writes_residual=False)
    moments = evidence.domain.gram / 4 + evidence.general.gram * 3 / 4
    mean = evidence.domain.input / 4 + evidence.general.input * 3 / 4
    assert torch.equal(plain.second_moments(within), evidence.domain.gram)
    torch.testing.assert_close(guarded.second_moments(within), moments)
    torch.testing.assert_close(guarded.second_moments(evidence), moments - torch.outer(mean, mean))
    torch.testing.assert_close(
        create("dai", {"general_share": 0.75, "centred": False}).second_moments(evidence), moments
    )
    assert plain.uses_second_moments
    assert not create("dai", {"swaps": 0}).uses_second_moments
