"""Second moments of inputs against brute force over real tokens, over every family."""

from __future__ import annotations

import pytest
import torch

from gaprune.errors import MeasurementError
from gaprune.models.prompts import Prompts
from plain_loop import PlainLoop, close, reached


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_only_real_tokens_count(model, toy_triplets, measured, plain_inputs, batch_size):
    statistics = measured(model, toy_triplets, statistics={"gram", "input", "input_square"}, batch_size=batch_size)
    for name, inputs in plain_inputs.items():
        assert statistics[name].tokens == len(inputs)
        close(statistics[name].gram, inputs.T @ inputs / len(inputs))
        close(statistics[name].input, inputs.mean(0))
        close(statistics[name].input_square, inputs.square().mean(0))


def test_prompts_are_tokens_too(model, toy_triplets, measured):
    statistics = measured(model, toy_triplets, statistics={"gram"}, prompts=Prompts("which loan: ", "cash and "))
    for name, inputs in PlainLoop(model, query="which loan: ", passage="cash and ").inputs(toy_triplets).items():
        close(statistics[name].gram, inputs.T @ inputs / len(inputs))


def test_they_are_the_same_beside_a_backward(model, toy_triplets, measured):
    alone = measured(model, toy_triplets, statistics={"gram"})
    beside = measured(model, toy_triplets)
    for name, statistics in beside.items():
        close(statistics.gram, alone[name].gram, 1e-6)


def test_grams_alone_run_no_backward(model, toy_triplets, measured, monkeypatch):
    def backward(*_args, **_kwargs):
        pytest.fail("a backward was run")

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.autograd, "backward", backward)
    enabled = set()
    model[0].register_forward_hook(lambda *_: enabled.add(torch.is_grad_enabled()))
    statistics = measured(model, toy_triplets, statistics={"gram"})
    assert enabled == {False}
    for matrix in reached(model):
        assert statistics[matrix.name].gram_sum is not None
        for statistic in ("fisher", "gradient"):
            with pytest.raises(MeasurementError, match=f"{matrix.name}: {statistic} was not measured"):
                getattr(statistics[matrix.name], statistic)


def test_a_lone_pair_has_a_gram(bert, toy_pairs, measured):
    assert measured(bert, toy_pairs[:1], statistics={"gram"})["encoder.layer.0.output.dense"].tokens > 0


def test_cut_texts_count_as_cut(bert, toy_triplets, measured):
    bert.max_seq_length = 5
    statistics = measured(bert, toy_triplets, statistics={"gram"})
    texts = [text for item in toy_triplets for text in (item.query, *item.passages)]
    expected = sum(int(bert.preprocess([text])["attention_mask"].sum()) for text in texts)
    assert {matrix.tokens for matrix in statistics.values()} == {expected}
    assert expected <= 5 * len(texts)


def test_unused_layers_have_inputs_all_the_same(bert, toy_triplets, measured):
    from gaprune.models.linear_layers import linear_layers

    pooler = [matrix for matrix in linear_layers(bert) if matrix.name == "pooler.dense"]
    statistics = measured(bert, toy_triplets, linear_layers=pooler, statistics={"gram"})["pooler.dense"]
    assert statistics.tokens == sum(1 + len(item.passages) for item in toy_triplets)
