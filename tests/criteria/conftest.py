"""One matrix with hand-made statistics; the counts differ, so that a sum taken for a mean shows."""

from __future__ import annotations

import pytest
import torch

from gaprune.criteria.inputs import WeightInputs
from gaprune.statistics.sums import LinearStatistics

OUT, IN = 4, 5


def make_statistics(seed: int, *, samples: int, triplets: int, tokens: int) -> LinearStatistics:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, IN, generator=generator)
    deltas = torch.randn(tokens, OUT, generator=generator)
    return LinearStatistics(
        "layer.0.up",
        samples=samples,
        triplets=triplets,
        tokens=tokens,
        fisher_sum=torch.rand(OUT, IN, generator=generator) + 0.01,
        gradient_sum=torch.randn(OUT, IN, generator=generator),
        gram_sum=inputs.T @ inputs,
        input_sum=inputs.sum(0),
        input_square_sum=inputs.square().sum(0),
        output_square_sum=deltas.square().sum(0),
    )


@pytest.fixture
def evidence() -> WeightInputs:
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0))
    return WeightInputs(
        name="layer.0.up",
        weight=weight,
        domain=make_statistics(1, samples=3, triplets=5, tokens=17),
        general=make_statistics(2, samples=7, triplets=11, tokens=23),
        seed=13,
        writes_residual=True,
    )
