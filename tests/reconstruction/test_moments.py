"""Moments against double precision, in one piece and added batch by batch, also far from zero."""

from __future__ import annotations

import pytest
import torch

from gaprune.reconstruction.moments import MomentAccumulator, Moments


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def direct(inputs, gaps):
    inputs, gaps = inputs.double(), gaps.double()
    centred, others = inputs - inputs.mean(0), gaps - gaps.mean(0)
    return Moments(inputs.mean(0), centred.T @ centred / len(inputs), gaps.mean(0), others.T @ centred / len(inputs))


def assert_close(found, expected, rtol=1e-4):
    for name, value in vars(expected).items():
        scale = float(value.abs().max())
        torch.testing.assert_close(getattr(found, name).double(), value, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("mean", [0.0, 3.0, 3000.0])
def test_batches_add_up_whatever_the_mean(mean):
    """With a mean of 3,000 standard deviations, second moments in fp32 would leave noise for a covariance."""
    inputs = draw(0, 500, 8) @ draw(1, 8, 8) + mean * draw(2, 8)
    outputs, targets = draw(3, 500, 5), inputs[:, :5] * 0.5 + draw(4, 500, 5)
    total = MomentAccumulator()
    for start, stop in ((0, 7), (7, 7), (7, 300), (300, 500)):
        total.add(inputs[start:stop], outputs[start:stop], targets[start:stop])
    assert_close(total.moments(), direct(inputs, targets - outputs), rtol=1e-3 if mean > 100 else 1e-5)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mixture_is_the_texts_together_with_their_shares(share):
    first, second = (draw(seed, 300, 6) * (1 + seed) + 4 * seed for seed in (0, 1))
    gaps = first[:, :3].square(), second[:, :3].sin()
    mixed = Moments.of(first, gaps[0]).mixed(Moments.of(second, gaps[1]), share)
    raw = (1 - share) * first.T.double() @ first.double() / 300 + share * second.T.double() @ second.double() / 300
    cross = (1 - share) * gaps[0].T @ first / 300 + share * gaps[1].T @ second / 300
    torch.testing.assert_close(mixed.of_inputs(centred=False).double(), raw, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed.of_gaps(centred=False), cross, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(mixed.mean, (1 - share) * first.mean(0) + share * second.mean(0))
    assert mixed.of_inputs(centred=True) is mixed.covariance
    assert mixed.of_gaps(centred=True) is mixed.cross


def test_nothing_has_no_moments():
    with pytest.raises(ValueError, match="no rows"):
        MomentAccumulator().moments()
