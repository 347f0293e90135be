"""Norms that are fitted: their outputs afterwards are those before, scaled and shifted as the least squares say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaprune.reconstruction.norms import NormMoments, fit_norm


class OnePlus(nn.RMSNorm):
    """An RMSNorm that multiplies by one plus its weight, as those of Gemma and Qwen3-Next."""

    def forward(self, inputs):
        return nn.functional.rms_norm(inputs, self.normalized_shape, 1 + self.weight, self.eps)


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm, OnePlus])
def test_outputs_approach_the_parents(make):
    draw = torch.Generator().manual_seed(0)
    norm = make(8, eps=1e-6)
    nn.init.normal_(norm.weight, 0.3, 0.2, generator=draw)
    inputs = torch.randn(500, 8, generator=draw)
    before = norm(inputs)
    wanted = 1.5 * before + 0.2 * torch.randn(500, 8, generator=draw)
    moments = NormMoments()
    moments.add(before.detach(), wanted.detach())
    scale, shift = fit_norm(norm, moments.means, ridge=1e-6)
    after = norm(inputs)
    torch.testing.assert_close(after, (scale * before + shift).float(), rtol=1e-4, atol=1e-4)
    assert (after - wanted).square().mean() < 0.05 < (before - wanted).square().mean()
