from __future__ import annotations

from collections import Counter

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import nn

from families import FAMILIES, Builder
from gaprune.errors import ModelError
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model

WRITERS = (".output.dense", ".attn.o", ".out_lin", ".lin2", ".Wo", ".o_proj", ".down_proj")
"""What matrices that write to the residual stream are called, in all families."""


@pytest.fixture
def builder(family):
    return FAMILIES[family]


def _expected(builder: Builder) -> list[tuple[str, str, int | None]]:
    inside = [
        (f"{builder.blocks}.{layer}.{name}", kind, layer)
        for layer in range(2)
        for kind, names in (("mlp", builder.mlp), ("attention", builder.attention))
        for name in names
    ]
    return sorted([*inside, *((name, "other", None) for name in builder.other)], key=str)


def test_every_matrix_is_found_with_its_kind_and_layer(model, builder):
    found = [(matrix.name, matrix.kind, matrix.layer) for matrix in linear_layers(model)]
    assert sorted(found, key=str) == _expected(builder)


def test_counts(model, builder):
    kinds = Counter(matrix.kind for matrix in linear_layers(model))
    assert kinds["mlp"] == 2 * len(builder.mlp)
    assert kinds["attention"] == 2 * len(builder.attention)
    assert kinds["other"] == len(builder.other)


def test_one_matrix_of_each_half_of_a_block_writes_to_the_residual_stream(model):
    found = linear_layers(model)
    writers = [matrix for matrix in found if matrix.writes_residual]
    assert writers == [matrix for matrix in found if matrix.name.endswith(WRITERS)]
    assert Counter((matrix.layer, matrix.kind) for matrix in writers) == {
        (layer, kind): 1 for layer in range(2) for kind in ("attention", "mlp")
    }


def test_matrices_are_the_models_own_layers(model):
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [matrix.module for matrix in linear_layers(model)] == linear


def test_names_are_those_of_the_checkpoint(model):
    transformer = model.transformers_model
    for matrix in linear_layers(model):
        if not matrix.name[0].isdigit():
            assert transformer.get_submodule(matrix.name) is matrix.module
        else:
            assert model.get_submodule(matrix.name) is matrix.module


def test_module_order_is_layer_order(model):
    layers = [matrix.layer for matrix in linear_layers(model) if matrix.layer is not None]
    assert layers == sorted(layers)


def test_a_model_without_a_transformer_is_refused():
    from tokenizers import Tokenizer, models

    static = StaticEmbedding(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")), embedding_dim=4)  # noqa: S106
    with pytest.raises(ModelError, match="first module is a StaticEmbedding, not a transformer") as caught:
        linear_layers(SentenceTransformer(modules=[static], device="cpu"))
    assert caught.value.remedy == "Choose a model whose modules start with a Transformer."


def test_blocks_without_linear_layers_are_refused(bert):
    for module in list(bert.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, nn.Identity())
    with pytest.raises(ModelError, match="No linear layers were found in the blocks of this BertModel"):
        linear_layers(bert)


@pytest.mark.genuine
def test_the_genuine_model(genuine):
    found = linear_layers(load_model(genuine, device="cpu"))
    assert Counter(matrix.kind for matrix in found) == {"mlp": 12, "attention": 24, "other": 1}
    assert {matrix.layer for matrix in found if matrix.kind == "mlp"} == set(range(6))
    assert sum(matrix.module.weight.numel() for matrix in found if matrix.kind == "mlp") == 6 * 2 * 384 * 1536


class _Mixer(nn.Module):
    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, hidden_states, *_: object, **__: object):
        return hidden_states


class _TokenAttention(_Mixer):
    pass


def _kinds_in_first_block(bert, **parts: nn.Module) -> dict[str, str]:
    blocks = bert.transformers_model.encoder.layer
    blocks[0] = _Mixer(**parts)
    return {matrix.name: matrix.kind for matrix in linear_layers(bert) if matrix.layer == 0}


def test_the_class_of_a_module_on_the_way_says_attention(bert):
    kinds = _kinds_in_first_block(bert, mixer=_TokenAttention(q=nn.Linear(32, 32)), ffn=_Mixer(up=nn.Linear(32, 48)))
    assert kinds == {"encoder.layer.0.mixer.q": "attention", "encoder.layer.0.ffn.up": "mlp"}


def test_the_name_of_a_module_on_the_way_says_attention(bert):
    kinds = _kinds_in_first_block(bert, self_attn=_Mixer(q=nn.Linear(32, 32)), attn_out=nn.Linear(32, 32))
    assert set(kinds.values()) == {"attention"}


def test_a_smaller_list_of_modules_holds_no_blocks(bert):
    before = [(matrix.name, matrix.kind, matrix.layer) for matrix in linear_layers(bert)]
    bert.transformers_model.adapters = nn.ModuleList([nn.Linear(32, 4), nn.Linear(4, 32)])
    after = [(matrix.name, matrix.kind, matrix.layer) for matrix in linear_layers(bert)]
    assert after == [*before, ("adapters.0", "other", None), ("adapters.1", "other", None)]


def test_of_nested_lists_of_equal_size_the_outermost_holds_the_blocks(bert):
    encoder = bert.transformers_model.encoder
    encoder.layer = nn.ModuleList([_Mixer(inner=encoder.layer)])
    inside = [matrix for matrix in linear_layers(bert) if matrix.kind != "other"]
    assert {matrix.layer for matrix in inside} == {0}
    assert Counter(matrix.kind for matrix in inside) == {"mlp": 4, "attention": 8}
