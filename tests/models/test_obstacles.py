"""Layers whose weight cannot simply be changed are refused by name, before anything is measured, on every path."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

import gaprune
from gaprune.errors import ModelError
from gaprune.models.checks import check_blocks, check_layers
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.load import load_model
from toys import GENERAL
from unusual import OBSTACLES, build_albert

PATHS = {
    "weights": {"sparsity": 0.5, "criterion": "magnitude"},
    "attention alone": {"sparsity": 0.5, "criterion": "magnitude", "targets": ["attention"]},
    "N:M": {"sparsity": 0.5, "granularity": "2:4", "criterion": "magnitude"},
    "sparsegpt": {"sparsity": 0.5, "criterion": "sparsegpt"},
    "depth": {"depth": 1},
    "width": {"width": 0.5, "round_to": 8},
}


@pytest.fixture
def albert(tmp_path):
    return load_model(build_albert(tmp_path), device="cpu")


@pytest.fixture(params=list(OBSTACLES))
def obstructed(request, bert):
    """A model with a layer that cannot be pruned, and what the error must say."""
    make, problem, remedy = OBSTACLES[request.param]
    if request.param == "adapter":
        pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries say of themselves
        make(bert)
    return bert, problem, remedy


def test_every_family_is_plain(model):
    check_layers(model)
    check_blocks(model, streamed=True)
    assert all(layer.obstacle is None for layer in linear_layers(model))


def test_it_is_named_with_the_way_out(obstructed):
    model, problem, remedy = obstructed
    with pytest.raises(ModelError, match=re.escape(problem)) as caught:
        check_layers(model)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["parametrized", "one weight", "other class"])
def test_every_path_refuses_it_before_measuring(bert, toy_triplets, path, kind, monkeypatch):
    make, problem, _ = OBSTACLES[kind]
    make(bert)
    monkeypatch.setattr(torch.Tensor, "backward", None)
    with pytest.raises(ModelError, match=re.escape(problem)):
        gaprune.prune(bert, domain=toy_triplets, general=GENERAL, **PATHS[path])


@pytest.mark.parametrize("kind", ["parametrized", "one weight"])
def test_recovery_refuses_it(bert, toy_triplets, kind):
    make, problem, _ = OBSTACLES[kind]
    make(bert)
    with pytest.raises(ModelError, match=re.escape(problem)):
        gaprune.recover(bert, domain=toy_triplets, steps=1, batch_size=2, held_out=0)


def test_heads_refuse_it(folder_of):
    qwen = load_model(folder_of("qwen3"), device="cpu")
    layer = qwen.transformers_model.layers[0].self_attn.q_proj
    layer.weight = nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"layers.0.self_attn.q_proj keeps its weight quantised"):
        gaprune.prune(qwen, heads=0.5, criterion="magnitude")


def test_a_layer_outside_the_blocks_matters_only_if_it_is_selected(bert):
    pooler = bert.transformers_model.pooler.dense
    pooler.weight = nn.Parameter(pooler.weight.to(torch.int8), requires_grad=False)
    check_layers(bert)
    select(linear_layers(bert), ["all"])
    with pytest.raises(ModelError, match=r"pooler\.dense keeps its weight quantised"):
        select(linear_layers(bert), ["pooler.dense"])


def test_a_layer_tied_to_the_embeddings_is_shared(bert):
    network = bert.transformers_model
    network.encoder.layer[0].extra = nn.Linear(32, network.embeddings.word_embeddings.num_embeddings, bias=False)
    network.encoder.layer[0].extra.weight = network.embeddings.word_embeddings.weight
    with pytest.raises(ModelError, match=r"layer.0.extra shares its weight: embeddings.word_embeddings.weight and"):
        check_layers(bert)


class TestBlocks:
    @pytest.mark.parametrize("path", [path for path in PATHS if path != "depth"])
    def test_a_shared_block_is_pruned_but_not_reconstructed(self, albert, toy_triplets, path, tmp_path, capsys):
        result = gaprune.prune(albert, domain=toy_triplets, general=GENERAL, out=tmp_path / "out", **PATHS[path])
        assert result.removed > 0
        assert result.method.reconstruction is None
        if PATHS[path].get("criterion") != "sparsegpt":
            assert "albert_layer_groups.0 runs 3 times" in capsys.readouterr().err.replace("\n", " ")

    def test_a_shared_block_is_neither_removed_nor_reconstructed_if_that_is_asked_for(self, albert, toy_triplets):
        for options in ({"depth": 1}, {"sparsity": 0.5, "reconstruct": True}):
            with pytest.raises(ModelError, match=r"albert_layer_groups.0 runs 3 times for a text"):
                gaprune.prune(albert, domain=toy_triplets, general=GENERAL, **options)

    def test_a_shared_block_recovers(self, albert, toy_triplets):
        gaprune.recover(albert, domain=toy_triplets, steps=1, batch_size=2, held_out=0)

    @pytest.fixture
    def flattened(self, bert):
        """A model whose blocks see all tokens of a batch in one row, as those with flash attention do."""
        for block in bert.transformers_model.encoder.layer:
            own = block.forward
            block.register_forward_pre_hook(
                lambda _, args: (args[0].flatten(0, 1)[None], *args[1:]) if args[0].ndim == 3 else None
            )
            block.forward = lambda hidden, *args, own=own, **kwargs: own(hidden.view(2, -1, 32), *args, **kwargs)
        return bert

    def test_flattened_inputs_are_refused_if_blocks_are_streamed(self, flattened):
        check_blocks(flattened, streamed=False)
        with pytest.raises(ModelError, match=r"layer.0 does not run once with an input of \(texts, tokens, hidden\)"):
            check_blocks(flattened, streamed=True)

    def test_a_block_that_does_not_run_is_refused_if_blocks_are_streamed(self, bert, toy_triplets):
        layers = bert.transformers_model.encoder.layer
        bert.transformers_model.encoder.forward = lambda hidden, *_, **__: BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden
        )
        check_blocks(bert, streamed=False)
        assert len(layers) == 2
        for options in ({"depth": 1}, {"sparsity": 0.5, "criterion": "magnitude", "reconstruct": True}):
            with pytest.raises(ModelError, match=r"layer.0 does not run once"):
                gaprune.prune(bert, domain=toy_triplets, general=GENERAL, **options)
        gaprune.prune(bert, sparsity=0.5, criterion="magnitude")
