"""A layer that runs several times a text: its gradient is the sum over its calls."""

from __future__ import annotations

import pytest

from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from plain_loop import PlainLoop, close
from unusual import build_albert


@pytest.fixture(scope="module")
def albert_folder(tmp_path_factory):
    return build_albert(tmp_path_factory.mktemp("albert"))


@pytest.fixture
def albert(albert_folder):
    return load_model(albert_folder, device="cpu")


def test_it_is_listed_once(albert):
    found = {matrix.name: (matrix.kind, matrix.layer) for matrix in linear_layers(albert)}
    inside = "encoder.albert_layer_groups.0.albert_layers.0"
    assert found[f"{inside}.ffn"] == found[f"{inside}.ffn_output"] == ("mlp", 0)
    assert found[f"{inside}.attention.query"] == ("attention", 0)
    assert found["encoder.embedding_hidden_mapping_in"] == ("other", None)


def test_gradients_sum_over_calls(albert, toy_triplets, measured):
    statistics = measured(albert, toy_triplets, negatives="explicit", batch_size=3)
    for name, gradients in PlainLoop(albert).explicit(toy_triplets).items():
        close(statistics[name].fisher, gradients.square().mean(0))
        close(statistics[name].gradient, gradients.mean(0))
        assert statistics[name].triplets == len(toy_triplets)


def test_grams_sum_over_calls(albert, toy_triplets, measured):
    statistics = measured(albert, toy_triplets, statistics={"gram"}, batch_size=3)
    once = statistics["encoder.embedding_hidden_mapping_in"].tokens
    for name, inputs in PlainLoop(albert).inputs(toy_triplets).items():
        close(statistics[name].gram, inputs.T @ inputs / len(inputs))
        assert statistics[name].tokens == (once if "mapping" in name else 3 * once)
