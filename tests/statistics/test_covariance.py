"""Covariances are right however large the means, and their sums add."""

from __future__ import annotations

import pytest
import torch

from gaprune.criteria.dai import DomainAlignmentImportance
from gaprune.criteria.inputs import WeightInputs
from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.accumulators import shapes_of
from gaprune.statistics.hooks import HookContext, LinearHook, TokenRows
from gaprune.statistics.sums import LinearStatistics
from plain_loop import close, reached

WANTED = frozenset({"gram", "input", "input_square"})
LAYER = LinearLayer("down", torch.nn.Linear(6, 4), "mlp", 0, writes_residual=True)


def draw(seed, *, texts=8, mean=3000.0):
    """Inputs ``(texts, tokens, 6)`` with correlated columns of deviation about 1."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = mean * torch.tensor([1.0, -1, 0.5, 1, 0, 2], dtype=torch.float64)
    return (torch.randn(texts, 5, 6, generator=generator, dtype=torch.float64) @ mix + means).float()


def sums_of(*batches, statistics=None):
    """Return the statistics of a layer that reads these batches."""
    if statistics is None:
        zeros = {name: torch.zeros(shape) for name, shape in shapes_of(LAYER, WANTED).items()}
        statistics = LinearStatistics("down").with_tensors(zeros)
    context = HookContext()
    hook = LinearHook(LAYER, WANTED, statistics, batch_fisher=False, context=context)
    for inputs in batches:
        context.texts = TokenRows(
            torch.ones(inputs.shape[:2], dtype=torch.bool), torch.arange(len(inputs)), len(inputs)
        )
        hook.forward(LAYER.module, (inputs,), torch.zeros(1))
        context.clear()
    return statistics


def exact(*batches):
    return torch.cat(batches).flatten(0, 1).double().T.cov(correction=0)


@pytest.mark.parametrize("mean", [0.0, 3000.0])
def test_large_means_do_not_cancel(mean):
    batches = [draw(seed, mean=mean) for seed in range(20)]
    expected = exact(*batches)
    found = sums_of(*batches)
    close(found.covariance.double(), expected, 1e-5)
    close(found.variance.double(), expected.diagonal(), 1e-5)
    rows = torch.cat(batches).flatten(0, 1).double()
    close(found.input.double(), rows.mean(0), 1e-6)
    close(found.gram.double(), rows.T @ rows / len(rows), 1e-6)
    close(found.input_square.double(), rows.square().mean(0), 1e-6)


def test_sums_add_though_each_has_a_shift_of_its_own():
    batches = [draw(seed) for seed in range(20)]
    total = sums_of(*batches[:3]) + (sums_of(*batches[3:4]) + sums_of(*batches[4:]))
    assert total.tokens == 20 * 40
    close(total.covariance.double(), exact(*batches), 1e-4)
    close(total.gram, sums_of(*batches).gram, 1e-6)


def test_a_measurement_that_continues_keeps_its_shift():
    batches = [draw(seed) for seed in range(4)]
    half = sums_of(*batches[:2])
    both = sums_of(*batches[2:], statistics=half.with_tensors({n: each.clone() for n, each in half.tensors().items()}))
    whole = sums_of(*batches)
    assert all(torch.equal(value, both.tensors()[name]) for name, value in whole.tensors().items())


@pytest.mark.parametrize("swaps", [0, 8])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_importance_is_that_of_exact_moments(swaps, share):
    """The whole criterion, against moments in double precision."""
    domain, general = [draw(0), draw(1)], [draw(2) + 1, draw(3) + 1]
    kinds = {"domain": sums_of(*domain), "general": sums_of(*general)}
    for each in kinds.values():
        each.output_square_sum = torch.ones(4) * each.tokens
    weight = torch.ones(4, 6)
    criterion = DomainAlignmentImportance(general_share=share, swaps=swaps, tempering=1)
    inputs = WeightInputs(
        name="down", weight=weight, domain=kinds["domain"], general=kinds["general"], writes_residual=True
    )
    rows = [torch.cat(each).flatten(0, 1).double() for each in (domain, general)]
    weights = torch.cat([torch.full((len(each),), part) for each, part in zip(rows, (1 - share, share), strict=True)])
    expected = torch.cat(rows).T.cov(correction=0, aweights=weights.double()).diagonal().expand(4, 6)
    close(criterion.importance(inputs).double(), expected, 1e-4)


def test_of_a_model(model, toy_triplets, measured):
    """Layers that share an input share its products, also after the shift."""
    found = measured(model, toy_triplets, statistics=WANTED, batch_size=3)
    alone = measured(model, toy_triplets, statistics={"gram"}, batch_size=3)
    for linear in reached(model):
        each = found[linear.name]
        close(each.gram, alone[linear.name].gram, 1e-5)
        close(each.covariance, each.gram - torch.outer(each.input, each.input), 1e-4)
