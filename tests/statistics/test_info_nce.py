from __future__ import annotations

import math

import pytest
import torch

from gaprune.statistics.losses import info_nce

_OWNERS = torch.tensor([0, 0, 0, 1, 2, 2])


@pytest.fixture
def embedded():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, generator=generator), torch.randn(6, 5, generator=generator)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("in_batch", [True, False])
def test_closed_form(embedded, temperature, in_batch):
    queries, passages = embedded
    losses = info_nce(queries, passages, _OWNERS, temperature=temperature, in_batch=in_batch)
    starts = [0, 3, 4]
    for row, query in enumerate(queries):
        scores = [
            math.exp(float(query @ passage / (query.norm() * passage.norm())) / temperature)
            if in_batch or _OWNERS[index] == row
            else 0.0
            for index, passage in enumerate(passages)
        ]
        expected = -math.log(scores[starts[row]] / sum(scores))
        assert losses[row].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_one_candidate_costs_nothing(embedded):
    losses = info_nce(*embedded, _OWNERS, temperature=0.05, in_batch=False)
    assert losses[1] == 0


def test_equal_candidates_cost_their_logarithm():
    losses = info_nce(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 0, 1, 1]), temperature=0.05, in_batch=True)
    torch.testing.assert_close(losses, torch.full((2,), math.log(4)))


def test_lengths_of_embeddings_do_not_matter(embedded):
    queries, passages = embedded
    losses = info_nce(queries, passages, _OWNERS, temperature=0.05, in_batch=True)
    again = info_nce(3 * queries, 0.1 * passages, _OWNERS, temperature=0.05, in_batch=True)
    torch.testing.assert_close(losses, again)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_losses_are_single_precision(embedded, dtype):
    queries, passages = embedded
    losses = info_nce(queries.to(dtype), passages.to(dtype), _OWNERS, temperature=0.05, in_batch=True)
    assert losses.dtype == torch.float32
    assert losses.shape == (3,)


@pytest.mark.parametrize("in_batch", [True, False])
def test_gradients_are_finite_with_other_triplets_masked(embedded, in_batch):
    queries, passages = (tensor.requires_grad_() for tensor in embedded)
    info_nce(queries, passages, _OWNERS, temperature=0.05, in_batch=in_batch).sum().backward()
    assert queries.grad.isfinite().all()
    assert passages.grad.isfinite().all()
    assert bool(passages.grad[3].any()) == in_batch
