"""The fit of a linear layer against a direct solve of its least-squares problem."""

from __future__ import annotations

import pytest
import torch

from gaprune.reconstruction.least_squares import UnsolvedError, fit_columns, fit_entries
from gaprune.reconstruction.moments import Moments

RIDGE = 0.05


@pytest.fixture
def layer():
    """A matrix ``(6, 10)`` with bias, and correlated inputs with a mean ``(200, 10)``."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    inputs = draw(200, 10) @ draw(10, 10) + draw(10)
    return draw(6, 10), draw(6), inputs


@pytest.fixture(params=[False, True], ids=["on its goal", "short of its goal"])
def gaps(request, layer):
    """What the outputs fall short of their goals, ``(200, 6)``: nothing, or much that goes with the inputs."""
    _, _, inputs = layer
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(200, 6, generator=generator)
    return request.param * (inputs.sin() @ torch.randn(10, 6, generator=generator) + noise + 1)


def moments(inputs, gaps=None):
    gaps = inputs.new_zeros(len(inputs), 6) if gaps is None else gaps
    return Moments.of(inputs, gaps)


def direct(weight, bias, inputs, gaps, keep, ridge):
    """Solve every row by stacking the data, the ridge and a column of ones, in double precision."""
    weight, inputs = weight.double(), inputs.double()
    tokens = len(inputs)
    centred = inputs - inputs.mean(0) if bias is not None else inputs
    strength = (ridge * centred.square().mean(0)).sqrt()
    rows, biases = torch.zeros_like(weight), []
    for index, row in enumerate(weight):
        stays = keep[index]
        count = int(stays.sum())
        data, target = inputs[:, stays] / tokens**0.5, (inputs @ row + gaps[:, index]) / tokens**0.5
        pull, towards = strength[stays].diag(), strength[stays] * row[stays]
        if bias is not None:
            data = torch.cat([data, torch.full((tokens, 1), tokens**-0.5).double()], 1)
            pull = torch.cat([pull, torch.zeros(count, 1).double()], 1)
        found = torch.linalg.lstsq(torch.cat([data, pull]), torch.cat([target, towards])).solution
        rows[index, stays] = found[:count]
        biases.append(found[count:])
    return rows, None if bias is None else bias.double() + torch.cat(biases)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("ridge", [0.0, RIDGE, 3.0])
def test_columns(layer, gaps, with_bias, ridge):
    weight, bias, inputs = layer
    bias = bias if with_bias else None
    keep = torch.tensor([1, 1, 0, 1, 0, 0, 1, 1, 0, 1]).bool()
    fitted, new_bias = fit_columns(weight, bias, moments(inputs, gaps), keep, ridge=ridge, name="down")
    rows, biases = direct(weight, bias, inputs, gaps, keep.expand(6, 10), ridge)
    torch.testing.assert_close(fitted.double(), rows, rtol=1e-3, atol=1e-4)
    assert not fitted[:, ~keep].any()
    if with_bias:
        torch.testing.assert_close(new_bias.double(), biases, rtol=1e-3, atol=1e-4)
    else:
        assert new_bias is None


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("ridge", [0.0, RIDGE, 3.0])
def test_entries(layer, gaps, with_bias, ridge):
    weight, bias, inputs = layer
    bias = bias if with_bias else None
    keep = torch.rand(6, 10, generator=torch.Generator().manual_seed(1)) < 0.5
    keep[2], keep[4] = True, False
    fitted, new_bias = fit_entries(weight, bias, moments(inputs, gaps), keep, ridge=ridge, name="down")
    rows, biases = direct(weight, bias, inputs, gaps, keep, ridge)
    torch.testing.assert_close(fitted.double(), rows, rtol=1e-3, atol=1e-3)
    assert not fitted[~keep].any()
    assert gaps.any() or torch.allclose(fitted[2], weight[2])
    if with_bias:
        torch.testing.assert_close(new_bias.double(), biases, rtol=1e-3, atol=1e-3)


def test_more_ridge_changes_less_and_fits_worse(layer):
    weight, bias, inputs = layer
    keep = torch.arange(10) % 2 == 0
    changes, errors = [], []
    for ridge in (0.0, 0.1, 1.0, 1e6):
        fitted, new_bias = fit_columns(weight, bias, moments(inputs), keep, ridge=ridge, name="down")
        changes.append(float((fitted - weight)[:, keep].norm()))
        errors.append(float((inputs @ (fitted - weight).T + new_bias - bias).norm()))
    assert changes == sorted(changes, reverse=True)
    assert errors == sorted(errors)
    assert changes[-1] < 1e-3


def test_the_bias_takes_the_mean(layer, gaps):
    """Whatever the ridge, the mean output is that of the goal."""
    weight, bias, inputs = layer
    keep = torch.arange(10) < 4
    fitted, new_bias = fit_columns(weight, bias, moments(inputs, gaps), keep, ridge=1e6, name="down")
    before, after = inputs @ weight.T + bias + gaps, inputs @ fitted.T + new_bias
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=1e-4, atol=1e-4)


def test_inputs_that_never_fire(layer):
    weight, bias, inputs = layer
    inputs[:, 3:6] = 0
    keep = torch.arange(10) < 8
    both = moments(inputs)
    fitted, _ = fit_columns(weight, bias, both, keep, ridge=RIDGE, name="down")
    torch.testing.assert_close(fitted[:, 3:6], weight[:, 3:6])
    entries, _ = fit_entries(weight, bias, both, keep.expand(6, 10), ridge=RIDGE, name="down")
    torch.testing.assert_close(entries, fitted, rtol=1e-3, atol=1e-3)
    with pytest.raises(UnsolvedError, match=r"down: .* is singular.\n.*larger ridge"):
        fit_columns(weight, bias, both, keep, ridge=0.0, name="down")
    with pytest.raises(UnsolvedError, match=r"down: .* is singular.\n.*larger ridge"):
        fit_entries(weight, bias, both, keep.expand(6, 10), ridge=0.0, name="down")


def test_what_is_not_finite_is_not_solved(layer):
    weight, bias, inputs = layer
    broken = Moments(*(torch.full_like(each, torch.nan) for each in vars(moments(inputs)).values()))
    keep = torch.arange(10) < 5
    for fit, mask in ((fit_columns, keep), (fit_entries, keep.expand(6, 10))):
        with pytest.raises(UnsolvedError, match="down"):
            fit(weight, bias, broken, mask, ridge=RIDGE, name="down")


def correlated(factor):
    """A layer of 64 correlated inputs, of which the first is multiplied, and which of them are kept."""
    generator = torch.Generator().manual_seed(3)
    sources = torch.randn(2000, 24, generator=generator)
    inputs = sources @ torch.randn(24, 64, generator=generator) / 5 + 0.05 * torch.randn(2000, 64, generator=generator)
    inputs[:, 0] *= factor
    return torch.randn(16, 64, generator=generator), inputs, torch.arange(64) % 2 == 0


@pytest.mark.parametrize("fit", [fit_columns, fit_entries])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1000.0])
def test_a_channel_with_massive_activations_leaves_the_others_as_they_are(fit, factor):
    """A tenth of the error is left at most; a ridge relative to the mean over inputs leaves 50 and 96 %."""
    weight, inputs, keep = correlated(factor)
    mask = keep if fit is fit_columns else keep.expand_as(weight)
    fitted, bias = fit(weight, torch.zeros(16), moments(inputs, torch.zeros(2000, 16)), mask, ridge=0.1, name="down")
    exact = inputs @ weight.T
    left = (inputs @ fitted.T + bias - exact).square().mean()
    pruned = (inputs[:, ~keep] @ weight[:, ~keep].T).var(0, correction=0).mean()
    assert left < 0.1 * pruned


@pytest.mark.parametrize("fit", [fit_columns, fit_entries])
def test_the_scale_of_an_input_does_not_matter(fit):
    weight, inputs, keep = correlated(1.0)
    mask = keep if fit is fit_columns else torch.rand(16, 64, generator=torch.Generator().manual_seed(0)) < 0.5
    scale = torch.logspace(-2, 3, 64)
    first, _ = fit(weight, None, moments(inputs, torch.zeros(2000, 16)), mask, ridge=0.1, name="down")
    second, _ = fit(weight / scale, None, moments(inputs * scale, torch.zeros(2000, 16)), mask, ridge=0.1, name="down")
    torch.testing.assert_close(second * scale, first, rtol=1e-3, atol=2e-3)
