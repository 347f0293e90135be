"""The order of units with a refit in view, against direct least squares without every set of them."""

from __future__ import annotations

import pytest
import torch

from gaprune.criteria.inputs import UnitInputs
from gaprune.criteria.obs import obs_order
from gaprune.criteria.registry import create
from gaprune.errors import MeasurementError
from gaprune.statistics.sums import LinearStatistics

OUTPUTS, TOKENS = 6, 400


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def square(rows):
    return rows.T @ rows / len(rows)


def left_over(weight, moments, curvature, gone):
    """What no weights of the other columns can make up for: ``tr(D W_R (C_RR - C_RS C_SS^-1 C_SR) W_R^T)``."""
    wide = moments.double() + 0.01 * moments.diagonal().mean().double() * torch.eye(len(moments)).double()
    mask = torch.zeros(len(moments), dtype=torch.bool)
    mask[gone] = True
    crossed = wide[mask][:, ~mask]
    schur = wide[mask][:, mask] - crossed @ torch.linalg.solve(wide[~mask][:, ~mask], crossed.T)
    lost = weight[:, mask].double()
    return float(torch.trace(curvature.double() @ lost @ schur @ lost.T))


def greedy(weight, moments, curvature, columns):
    units = weight.shape[1] // columns
    gone = []
    while len(gone) < units:

        def cost(unit):
            return left_over(
                weight, moments, curvature, [k * columns + c for k in [*gone, unit] for c in range(columns)]
            )

        gone.append(min((unit for unit in range(units) if unit not in gone), key=cost))
    return [float(gone.index(unit)) for unit in range(units)]


@pytest.mark.parametrize(("units", "columns"), [(12, 1), (70, 1), (5, 3), (18, 5)])
def test_each_time_the_one_goes_that_leaves_least(units, columns):
    """Also beyond as many columns as wait for the large matrices to be brought up to date."""
    size = units * columns
    inputs = draw(0, TOKENS, size) @ (torch.eye(size) + 0.3 * draw(1, size, size))
    given = draw(2, OUTPUTS, size), square(inputs), square(draw(3, TOKENS, OUTPUTS) * torch.arange(1, OUTPUTS + 1))
    assert obs_order(*given, columns=columns, name="down").tolist() == greedy(*given, columns)


def test_copies_are_free_once_and_dear_then():
    """Of two units that fire alike one costs next to nothing, whatever it weighs; the last of them does not."""
    inputs = draw(0, TOKENS, 4)
    inputs[:, 2] = inputs[:, 0]
    weight = torch.tensor([[5.0, 0.1, 5.0, 1.0]])
    places = obs_order(weight, square(inputs), torch.ones(1, 1), columns=1, name="down")
    first, second, third, last = places.argsort().tolist()
    assert third == 3
    assert {first, second, last} == {0, 1, 2}
    assert last != 1


def test_dai_foresees_the_refit_where_one_comes():
    weight, inputs = draw(4, OUTPUTS, 12), draw(5, TOKENS, 12) @ draw(6, 12, 12)
    curvature = square(draw(7, TOKENS, OUTPUTS))
    statistics = LinearStatistics(
        "down",
        triplets=1,
        tokens=TOKENS,
        gram_sum=square(inputs) * TOKENS,
        input_sum=inputs.sum(0),
        output_gram_sum=curvature * TOKENS,
    )
    evidence = UnitInputs(name="down", weight=weight[:, :, None], producer_square=torch.ones(12), domain=statistics)
    orders = {}
    for reconstructs in (False, True):
        dai = create("dai").for_run({"domain"}, reconstructs=reconstructs)
        assert dai.reconstruction_aware is reconstructs
        orders[reconstructs] = dai.unit_importance(evidence)
    covariance = square(inputs - inputs.mean(0))
    expected = obs_order(weight, covariance, curvature, columns=1, name="down")
    assert torch.equal(orders[True], expected)
    assert not torch.equal(orders[True], orders[False])
    assert create("dai:reconstruction_aware=true").for_run({"domain"}, reconstructs=False).reconstruction_aware
    assert not create("dai:reconstruction_aware=false").for_run({"domain"}, reconstructs=True).reconstruction_aware


def test_moments_that_are_not_finite():
    broken = torch.full((4, 4), torch.nan)
    with pytest.raises(MeasurementError, match=r"^down: the second moments of the inputs are not positive definite"):
        obs_order(draw(0, 2, 4), broken, torch.eye(2), columns=1, name="down")


def test_a_channel_with_massive_activations_leaves_the_order_of_the_others():
    """Units whose inputs are a thousand times larger, and whose weights are as much smaller, hide no other."""
    inputs, weight = draw(0, TOKENS, 12) @ draw(1, 12, 12), draw(2, OUTPUTS, 12)
    curvature, scale = square(draw(3, TOKENS, OUTPUTS)), torch.ones(12)
    scale[4] = 1000.0
    before = obs_order(weight, square(inputs), curvature, columns=1, name="down")
    after = obs_order(weight / scale, square(inputs * scale), curvature, columns=1, name="down")
    others = torch.arange(12) != 4
    assert (before - after)[others].abs().max() <= 2
