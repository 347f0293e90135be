"""Hidden dimensions cut out: the smaller model is the masked one, saves, reloads and leaves its parent alone."""

from __future__ import annotations

import copy

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoModel

from families import TEXTS
from gaprune.errors import ModelError, SelectionError
from gaprune.models.hidden import head_size, heads_of, hidden_groups
from gaprune.models.linear_layers import linear_layers
from gaprune.pruning.cut_hidden import remove_hidden

SIZE, KEPT = 32, 16
REFUSED = ("gemma",)


def embed(model):
    return torch.from_numpy(model.encode(list(TEXTS), show_progress_bar=False))


def draw(count, kept, seed):
    return sorted(torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept].tolist())


def chosen(model):
    """Dimensions, and heads: others in every block, but for a table that serves all blocks."""
    groups, each = heads_of(model), head_size(model)
    heads = {
        group.name: draw(group.units, KEPT // each, 0 if group.shared else seed) for seed, group in enumerate(groups)
    }
    return draw(SIZE, KEPT, 7), heads


class MaskedNorm(nn.Module):
    """A norm over the kept dimensions alone; the others are zero."""

    def __init__(self, norm, kept):
        super().__init__()
        self.norm, self.kept = copy.deepcopy(norm), kept
        for name, parameter in self.norm.named_parameters():
            setattr(self.norm, name, nn.Parameter(parameter.detach()[kept]))
        if isinstance(norm, nn.LayerNorm):
            self.norm.normalized_shape = (len(kept),)

    def forward(self, values):
        masked = torch.zeros_like(values)
        masked[..., self.kept] = self.norm(values[..., self.kept])
        return masked


def masked(model, kept, heads):
    """The parent with statistics of norms over the kept dimensions, and zeros in the others and in removed heads."""
    model = copy.deepcopy(model)
    transformer = model.transformers_model
    by_name = {linear.name: linear.module for linear in linear_layers(model)}
    for path, module in list(transformer.named_modules()):
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and weight is not None and weight.shape == (SIZE,):
            parent, _, name = path.rpartition(".")
            setattr(transformer.get_submodule(parent), name, MaskedNorm(module, kept))
        if isinstance(module, nn.Embedding) and module.embedding_dim == SIZE:
            gone = [each for each in range(SIZE) if each not in kept]
            module.weight.data[:, gone] = 0
    for group in heads_of(model):
        columns = torch.zeros(group.units, dtype=torch.bool)
        columns[heads[group.name]] = True
        by_name[group.name].weight.data[:, ~columns.repeat_interleave(group.consumer.columns_per_unit)] = 0
    return model


def test_cut_is_masked(model, family, tmp_path):
    if family in REFUSED:
        with pytest.raises(ModelError, match=r"Gemma3TextModel.embed_tokens multiplies embeddings by a factor"):
            hidden_groups(model)
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept, heads = chosen(model)
    cut = remove_hidden(model, kept, heads)
    expected = embed(masked(model, kept, heads))
    torch.testing.assert_close(embed(cut), expected, rtol=0, atol=1e-5)
    assert (expected - embed(model)).abs().max() > 1e-3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    cut.save_pretrained(str(tmp_path / "cut"), create_model_card=False)
    reopened = SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    torch.testing.assert_close(embed(reopened), embed(cut), rtol=0, atol=1e-6)
    inside = AutoModel.from_pretrained(str(tmp_path / "cut"))
    assert inside.config.hidden_size == KEPT
    assert inside.get_input_embeddings().weight.shape[1] == KEPT


def test_all_dimensions_kept_are_the_parent(model, family):
    if family in REFUSED:
        return
    heads = {group.name: range(group.units) for group in heads_of(model)}
    torch.testing.assert_close(embed(remove_hidden(model, range(SIZE), heads)), embed(model), rtol=0, atol=1e-5)
