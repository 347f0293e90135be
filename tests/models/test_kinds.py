"""Attention and the MLP are told by names and by shapes; without evidence, the user selects."""

from __future__ import annotations

import pytest

import gaprune
from gaprune.errors import ModelError, SelectionError
from gaprune.models.linear_layers import linear_layers, select
from toys import GENERAL
from unusual import mix

LAYERS = {"MHA": ("Wqkv", "out_proj"), "Fused": ("inner", "out_proj")} | dict.fromkeys(
    ("Convolution", "StateSpace"), ("in_proj", "out_proj")
)


@pytest.fixture(params=["MHA", "Fused"])
def attention(request, bert):
    return mix(bert, request.param), LAYERS[request.param]


@pytest.fixture(params=["Convolution", "StateSpace"])
def other(request, bert):
    return mix(bert, request.param)


def _kinds(model):
    return {layer.name: layer.kind for layer in linear_layers(model) if layer.layer == 0}


def test_a_mixer_that_makes_heads_is_attention(attention):
    model, names = attention
    found = {f"encoder.layer.0.mixer.{name}": "attention" for name in names}
    assert _kinds(model) == found | {f"encoder.layer.0.channels.fc{end}": "mlp" for end in (1, 2)}
    assert {layer.name.split(".", 3)[3] for layer in linear_layers(model) if layer.writes_residual} == {
        "mixer.out_proj",
        "channels.fc2",
    }


def test_the_default_leaves_such_attention_alone(attention, toy_triplets):
    model, names = attention
    result = gaprune.prune(model, domain=toy_triplets, general=GENERAL, sparsity=0.5)
    zeros = {layer.name: int((layer.module.weight == 0).sum()) for layer in linear_layers(result.model)}
    assert all(zeros[f"encoder.layer.{layer}.mixer.{name}"] == 0 for layer in range(2) for name in names)
    assert sum(zeros.values()) == 2 * 32 * 128


def test_other_mixers_are_neither(other):
    assert _kinds(other) == {
        f"encoder.layer.0.{name}": kind
        for name, kind in {
            "mixer.in_proj": "unknown",
            "mixer.out_proj": "unknown",
            "channels.fc1": "mlp",
            "channels.fc2": "mlp",
        }.items()
    }


@pytest.mark.parametrize("word", ["mlp", "attention", "all"])
def test_words_are_refused_then_with_the_way_out(other, word):
    with pytest.raises(SelectionError, match=rf"'{word}' is not clear .*layer.0.mixer.in_proj") as caught:
        select(linear_layers(other), [word])
    assert "re:PATTERN" in caught.value.remedy
    assert "--set ignore=" in caught.value.remedy


def test_the_error_comes_before_measuring(other, toy_triplets):
    with pytest.raises(SelectionError, match="is not clear"):
        gaprune.prune(other, domain=toy_triplets, general=GENERAL, sparsity=0.5)


def test_words_are_clear_once_the_rest_is_named(other):
    found = linear_layers(other)
    mlp = [layer.name for layer in found if ".channels." in layer.name]
    mixers = [layer.name for layer in found if ".mixer." in layer.name]
    assert [layer.name for layer in select(found, ["mlp"], ["re:.*mixer.*"])] == mlp
    assert {layer.name for layer in select(found, ["mlp", "re:.*mixer.*"])} == {*mlp, *mixers}
    with pytest.raises(SelectionError, match=r"layer.1.mixer.out_proj"):
        select(found, ["mlp"], ["re:.*in_proj", "encoder.layer.0.mixer.out_proj"])


@pytest.mark.parametrize("reconstruct", [False, True])
def test_layers_of_unknown_kind_can_be_selected_by_name(other, toy_triplets, reconstruct):
    before = linear_layers(other)
    result = gaprune.prune(
        other, domain=toy_triplets, general=GENERAL, sparsity=0.5, targets=["re:.*mixer.*"], reconstruct=reconstruct
    )
    zeros = {layer.name: int((layer.module.weight == 0).sum()) for layer in linear_layers(result.model)}
    size = sum(layer.module.weight.numel() for layer in before if ".mixer." in layer.name)
    assert sum(zeros.values()) == size // 2
    assert not any(count for name, count in zeros.items() if ".mixer." not in name)


def test_neurons_are_found_beside_an_unknown_mixer_but_heads_are_not(other):
    other.transformers_model.config.intermediate_size = 128
    other.transformers_model.config.head_dim = 8
    with pytest.raises(ModelError, match="has no attention of linear layers"):
        gaprune.prune(other, heads=0.5, criterion="magnitude")


def test_an_adapter_that_narrows_is_no_mlp(bert):
    from torch import nn

    bert.transformers_model.encoder.layer[0].adapter = nn.Sequential(nn.Linear(32, 4), nn.Linear(4, 32))
    kinds = _kinds(bert)
    assert kinds["encoder.layer.0.adapter.0"] == kinds["encoder.layer.0.adapter.1"] == "unknown"
    assert kinds["encoder.layer.0.output.dense"] == "mlp"
