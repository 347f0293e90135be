"""Gate gradients of units and second moments of output gradients, against the plain loop, over every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from gaprune.data.triplets import Triplets
from gaprune.errors import DataError, MeasurementError
from gaprune.statistics.losses import rademacher_probe
from plain_loop import PlainLoop, close, reached


def readers(model, unit):
    """The matrices that alone read their input, with so many columns a unit."""
    last = ("output.dense", "attn.o", "o_proj", "down_proj", "lin2", "out_lin", "Wo")
    return [replace(matrix, columns_per_unit=unit) for matrix in reached(model) if matrix.name.endswith(last)]


@pytest.mark.parametrize("unit", [1, 8])
@pytest.mark.parametrize("batch_size", [2, 16])
def test_a_gate_gradient_is_the_weights_times_their_gradients(
    model, toy_triplets, measured, plain_explicit, unit, batch_size
):
    """Scaling a unit scales its columns: the derivative by the factor is the sum of weight times gradient there."""
    chosen = readers(model, unit)
    assert len(chosen) == 4
    statistics = measured(
        model, toy_triplets, linear_layers=chosen, statistics={"gate"}, negatives="explicit", batch_size=batch_size
    )
    for matrix in chosen:
        products = plain_explicit[matrix.name] * matrix.module.weight.detach().double()
        gates = products.sum(1).unflatten(1, (-1, unit)).sum(2)
        close(statistics[matrix.name].gate, gates.mean(0))
        close(statistics[matrix.name].gate_fisher, gates.square().mean(0))
        assert statistics[matrix.name].triplets == len(toy_triplets)


def test_output_gradients_of_projections_over_real_tokens(model, toy_triplets, measured):
    """Text by text, without padding, in double precision; labels and batches make no difference."""
    loop = PlainLoop(model)
    seen = {matrix.name: [] for matrix in loop.linear_layers}

    def follow(name, output):
        output.register_hook(lambda gradient: seen[name].append(gradient.reshape(-1, gradient.shape[-1])))

    for matrix in loop.linear_layers:
        matrix.module.register_forward_hook(lambda _module, _args, output, name=matrix.name: follow(name, output))
    for item in toy_triplets:
        for text in loop.texts(item):
            rademacher_probe(loop.embed(text)[None], [text], seed=5).backward()
    for batch_size, negatives in ((3, "explicit"), (16, "in-batch")):
        statistics = measured(
            model,
            toy_triplets,
            statistics={"output_gram", "output_square"},
            negatives=negatives,
            batch_size=batch_size,
            seed=5,
        )
        for name, rows in seen.items():
            gradients = torch.cat(rows)
            assert statistics[name].tokens == len(gradients)
            close(statistics[name].output_gram, gradients.T @ gradients / len(gradients))
            close(statistics[name].output_square, gradients.square().mean(0))


def test_projections_need_no_negatives(bert, toy_triplets, measured):
    bare = Triplets([replace(item, negatives=()) for item in toy_triplets[:1]], "bare")
    assert measured(bert, bare, statistics={"output_gram"}, negatives="explicit")
    with pytest.raises(DataError, match="has no negative"):
        measured(bert, bare, statistics={"gate"}, negatives="explicit")


def test_gradients_of_projections_average_to_the_curvature_of_the_distance():
    """Over many signs the mean of ``g gT`` is ``JT J`` of the normalised embedding."""
    states = torch.tensor([[0.3, -1.2, 0.7]], requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda x: functional.normalize(x, dim=-1)[0], states)[:, 0]
    total = torch.zeros(3, 3)
    draws = 4000
    for seed in range(draws):
        (gradient,) = torch.autograd.grad(rademacher_probe(states, ["a text"], seed=seed), states)
        total += gradient.T @ gradient / draws
    torch.testing.assert_close(total, jacobian.T @ jacobian, atol=0.03, rtol=0)
    alike = [rademacher_probe(states, [text], seed=1).item() for text in ("a text", "a text", "another")]
    assert alike[0] == alike[1] != alike[2]


def test_gates_are_the_same_beside_weight_gradients(bert, toy_triplets, measured):
    chosen = readers(bert, 1)
    alone = measured(bert, toy_triplets, linear_layers=chosen, statistics={"gate"})
    beside = measured(bert, toy_triplets, linear_layers=chosen, statistics={"gate", "fisher", "output_gram"})
    for name, statistics in alone.items():
        close(beside[name].gate, statistics.gate, 1e-6)
        with pytest.raises(MeasurementError, match=f"{name}: fisher was not measured"):
            _ = statistics.fisher


def test_gates_add(bert, toy_triplets, measured):
    options = {"linear_layers": readers(bert, 1), "statistics": {"gate", "output_gram"}, "negatives": "explicit"}
    whole, first, second = (
        measured(bert, part, **options) for part in (toy_triplets, toy_triplets[:3], toy_triplets[3:])
    )
    for name, expected in whole.items():
        total = first[name] + second[name]
        close(total.gate, expected.gate)
        close(total.gate_fisher, expected.gate_fisher)
        close(total.output_gram, expected.output_gram)
