"""Fisher information and mean gradients against a plain loop, over every family."""

from __future__ import annotations

import pytest
import torch

from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from plain_loop import PlainLoop, close, reached


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_explicit_negatives(model, toy_triplets, measured, plain_explicit, batch_size):
    statistics = measured(model, toy_triplets, negatives="explicit", batch_size=batch_size)
    assert list(statistics) == [matrix.name for matrix in reached(model)]
    for name, gradients in plain_explicit.items():
        close(statistics[name].gradient, gradients.mean(0))
        close(statistics[name].fisher, gradients.square().mean(0))
        assert statistics[name].samples == statistics[name].triplets == len(toy_triplets)


@pytest.mark.parametrize("data", ["toy_triplets", "toy_pairs"])
def test_in_batch_negatives(model, measured, data, request):
    triplets = request.getfixturevalue(data)
    statistics = measured(model, triplets, negatives="in-batch", batch_size=16)
    loop = PlainLoop(model)
    expected, whole = loop.in_batch(triplets), loop.whole(triplets)
    for name, gradients in expected.items():
        close(gradients.sum(0), whole[name], 1e-9)
        close(statistics[name].gradient_sum, whole[name])
        close(statistics[name].fisher, gradients.square().mean(0))


def test_batch_fisher_squares_the_gradient_of_the_mean_loss(model, toy_triplets, measured):
    statistics = measured(model, toy_triplets, fisher="batch", batch_size=16)
    for name, whole in PlainLoop(model).whole(toy_triplets).items():
        close(statistics[name].fisher, (whole / len(toy_triplets)).square())
        close(statistics[name].gradient, whole / len(toy_triplets))
        assert (statistics[name].samples, statistics[name].triplets) == (1, len(toy_triplets))


def test_batch_fisher_averages_over_batches_of_four(model, toy_triplets, measured, plain_explicit):
    """Seven triplets make batches of three and four, sorted by length."""
    statistics = measured(model, toy_triplets, fisher="batch", negatives="explicit")
    by_length = sorted(toy_triplets, key=lambda item: len(item.query) + sum(map(len, item.passages)))
    rows = [list(toy_triplets).index(item) for item in by_length]
    for name, gradients in plain_explicit.items():
        short, long = gradients[rows[:3]].mean(0), gradients[rows[3:]].mean(0)
        close(statistics[name].fisher, (short.square() + long.square()) / 2)
        assert statistics[name].samples == 2


def test_halves_add_to_the_whole(model, toy_triplets, measured):
    options = {"negatives": "explicit", "batch_size": 2}
    whole = measured(model, toy_triplets, **options)
    first, second = measured(model, toy_triplets[:3], **options), measured(model, toy_triplets[3:], **options)
    for name, expected in whole.items():
        total = first[name] + second[name]
        assert (total.samples, total.triplets, total.tokens) == (expected.samples, expected.triplets, expected.tokens)
        for statistic in ("fisher", "gradient", "gram", "input_square"):
            close(getattr(total, statistic), getattr(expected, statistic), 1e-5)


def test_prompts_are_put_before_the_texts(model, toy_triplets, measured):
    prompts = Prompts(query="which loan: ", passage="cash and ")
    statistics = measured(model, toy_triplets, prompts=prompts, negatives="explicit")
    loop = PlainLoop(model, query=prompts.query, passage=prompts.passage)
    plain = measured(model, toy_triplets, negatives="explicit")
    for name, gradients in loop.explicit(toy_triplets).items():
        close(statistics[name].fisher, gradients.square().mean(0))
        assert not torch.allclose(statistics[name].fisher, plain[name].fisher, rtol=0.1, atol=0)
        assert statistics[name].tokens > plain[name].tokens or name[0].isdigit()


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_temperature(bert, toy_triplets, measured, temperature):
    statistics = measured(bert, toy_triplets, temperature=temperature, negatives="explicit")
    for name, gradients in PlainLoop(bert, temperature=temperature).explicit(toy_triplets).items():
        close(statistics[name].fisher, gradients.square().mean(0), 5e-4)


def test_truncated_embeddings(bert, toy_triplets, measured):
    bert.truncate_dim = 8
    statistics = measured(bert, toy_triplets, negatives="explicit")
    for name, gradients in PlainLoop(bert).explicit(toy_triplets).items():
        close(statistics[name].fisher, gradients.square().mean(0))


def test_a_pooling_that_leaves_the_prompt_out(folder_of, toy_triplets, measured):
    model = load_model(folder_of("mpnet"), device="cpu")
    prompts = Prompts(query="which loan: ", passage="cash and ")
    kept = measured(model, toy_triplets, prompts=prompts, negatives="explicit")
    model[1].include_prompt = False
    left_out = measured(model, toy_triplets, prompts=prompts, negatives="explicit")
    for name in kept:
        assert kept[name].tokens == left_out[name].tokens
        close(left_out[name].gram, kept[name].gram, 1e-6)
        assert not torch.allclose(left_out[name].fisher, kept[name].fisher, rtol=0.1, atol=0)


def test_the_seed_orders_and_does_not_change(bert, toy_triplets, measured):
    first = measured(bert, toy_triplets, seed=0, batch_size=2)
    second = measured(bert, toy_triplets, seed=5, batch_size=2)
    for name in first:
        close(first[name].fisher, second[name].fisher, 1e-5)


def test_repeating_is_exact(bert, toy_triplets, measured):
    first, second = (measured(bert, toy_triplets, batch_size=2) for _ in range(2))
    assert all(torch.equal(first[name].fisher, second[name].fisher) for name in first)


def test_sums_are_single_precision_whatever_the_model(folder_of, toy_triplets, measured):
    exact = measured(load_model(folder_of("bert"), device="cpu"), toy_triplets, temperature=0.5)
    rough = measured(load_model(folder_of("bert"), device="cpu", dtype="bfloat16"), toy_triplets, temperature=0.5)
    for name, statistics in rough.items():
        assert {statistics.fisher.dtype, statistics.gradient.dtype, statistics.gram.dtype} == {torch.float32}
        alike = torch.cosine_similarity(statistics.fisher.flatten(), exact[name].fisher.flatten(), dim=0)
        assert alike > 0.95


def test_a_caller_without_gradients_is_no_obstacle(bert, toy_triplets, measured):
    expected = measured(bert, toy_triplets)
    with torch.no_grad():
        statistics = measured(bert, toy_triplets)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(statistics[name].fisher, expected[name].fisher) for name in statistics)


@pytest.mark.genuine
def test_the_genuine_model(genuine, toy_triplets, measured):
    model = load_model(genuine, device="cpu")
    loop = PlainLoop(model)
    pick = [
        index for index, matrix in enumerate(loop.linear_layers) if matrix.layer in {0, 5} and matrix.kind == "mlp"
    ]
    loop.linear_layers = [loop.linear_layers[index] for index in pick]
    loop.weights = [loop.weights[index] for index in pick]
    statistics = measured(
        model, toy_triplets[:3], linear_layers=[reached(model)[index] for index in pick], negatives="explicit"
    )
    for name, gradients in loop.explicit(toy_triplets[:3]).items():
        close(statistics[name].fisher, gradients.square().mean(0))
        close(statistics[name].gradient, gradients.mean(0))
