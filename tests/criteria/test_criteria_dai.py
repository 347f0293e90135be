"""The paper's DAI and ours, by loops in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gaprune.criteria import create
from gaprune.criteria.dai import rank_one


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

    def narrow(signals):
        return replace(signals, fisher_sum=cut(signals.fisher_sum), gradient_sum=cut(signals.gradient_sum))

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


def test_rank_one_has_the_same_row_and_column_means_and_rank_one():
    values = torch.rand(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = rank_one(values)
    torch.testing.assert_close(smooth.mean(0), values.mean(0))
    torch.testing.assert_close(smooth.mean(1), values.mean(1))
    assert int(torch.linalg.matrix_rank(smooth)) == 1
    for row in range(6):
        for column in range(9):
            expected = values[row].mean() * values[:, column].mean() / values.mean()
            assert float(smooth[row, column]) == pytest.approx(float(expected))


def test_rank_one_keeps_what_has_rank_one_and_zero():
    outer = torch.outer(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(rank_one(outer), outer)
    assert torch.equal(rank_one(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_rank_one_of_the_tiny_numbers_that_fisher_really_has():
    values = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rank_one(values * 1e-14) * 1e14, rank_one(values))


def ours(evidence, *, general=0.0, smoothing=0.8, alpha=0.0):
    fisher_domain, fisher_general, domain, other = means(evidence)

    def smooth(fisher):
        rows, columns = len(fisher), len(fisher[0])
        by_row = [sum(row) / columns for row in fisher]
        by_column = [sum(row[column] for row in fisher) / rows for column in range(columns)]
        mean = sum(by_row) / rows
        return [
            [(1 - smoothing) * fisher[r][c] + smoothing * by_row[r] * by_column[c] / mean for c in range(columns)]
            for r in range(rows)
        ]

    first, second, weights = smooth(fisher_domain), smooth(fisher_general), lists(evidence.weight)
    cosines = [
        sum(a * b for a, b in zip(*pair, strict=True)) / (norm([pair[0]]) * norm([pair[1]]))
        for pair in zip(domain, other, strict=True)
    ]
    return [
        [
            (first[r][c] + general * second[r][c]) * weights[r][c] ** 2 * (1 + alpha * cosines[r])
            for c in range(len(weights[0]))
        ]
        for r in range(len(weights))
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("general", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_our_formula(evidence, smoothing, general, alpha):
    options = {"smoothing": smoothing, "general": general, "alpha": alpha}
    assert_close(create("dai", options).importance(evidence), ours(evidence, **options))


def test_our_defaults(evidence):
    assert create("dai").model_dump() == {
        "general": 0.0, "smoothing": 0.8, "alpha": 0.0, "damping": 0.01, "preservation": 5.0,
    }  # fmt: skip
    assert_close(create("dai").importance(evidence), ours(evidence))


def test_unsmoothed_unguarded_dai_is_obd(evidence):
    importance = create("dai", {"smoothing": 0, "general": 0}).importance(evidence)
    assert torch.equal(importance, create("obd").importance(evidence))


def test_alignment_lifts_rows_that_agree_and_lowers_rows_that_do_not(evidence):
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    opposed = replace(evidence.general, gradient_sum=evidence.domain.gradient_sum * sign)
    importance = create("dai", {"alpha": 0.5}).importance(replace(evidence, general=opposed))
    torch.testing.assert_close(
        importance, create("dai").importance(replace(evidence, general=opposed)) * (1 + 0.5 * sign)
    )
