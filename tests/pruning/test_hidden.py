"""Hidden dimensions cut out: the smaller model is the masked one, saves, reloads and leaves its parent alone."""

from __future__ import annotations

import copy

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoModel

import gaprune
from families import TEXTS
from gaprune.errors import ConfigError, ModelError, SelectionError
from gaprune.export.provenance import Provenance
from gaprune.models.hidden import head_size, heads_of, hidden_groups
from gaprune.models.linear_layers import linear_layers
from gaprune.pruning.cut_hidden import remove_hidden
from toys import GENERAL

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


def test_choices_that_do_not_fit(bert):
    kept, heads = chosen(bert)
    first = next(iter(heads))
    for dimensions, others in (
        ([], {}),
        (kept, {}),
        (kept, heads | {first: [0]}),
        (kept[:-1], heads),
        ([*kept[:-1], 99], heads),
    ):
        with pytest.raises(SelectionError, match="hidden dimensions do not fit the attention heads"):
            remove_hidden(bert, dimensions, others)


class TestRun:
    def test_without_reconstruction_it_is_the_masked_parent(self, model, family, toy_triplets, tmp_path):
        options = {"domain": toy_triplets, "hidden": 0.5, "round_to": 8}
        if family in REFUSED:
            with pytest.raises(ModelError, match="multiplies embeddings by a factor"):
                gaprune.prune(model, **options)
            return
        result = gaprune.prune(model, reconstruct=False, out=tmp_path / "out", **options)
        (cut,) = Provenance.read(tmp_path / "out").method.pruning.removed
        assert (cut.kind, cut.removed, cut.total, len(cut.kept["hidden"])) == ("hidden", KEPT, SIZE, KEPT)
        heads = {name: list(kept) for name, kept in cut.kept.items() if name != "hidden"}
        assert {len(kept) for kept in heads.values()} == ({2} if heads_of(model) else set())
        expected = embed(masked(model, list(cut.kept["hidden"]), heads))
        torch.testing.assert_close(embed(result.model), expected, rtol=0, atol=1e-5)
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        torch.testing.assert_close(embed(opened), expected, rtol=0, atol=1e-5)
        assert "| removed hidden dimensions | 16 of 32 |" in (tmp_path / "out" / "README.md").read_text("utf-8")

    def test_reconstruction_comes_nearer_to_the_parent(self, model, family, toy_triplets):
        if family in REFUSED:
            return
        many = toy_triplets  # it is judged on others, and kept if those agree
        results = [
            gaprune.prune(model, domain=many, general=GENERAL, hidden=0.25, round_to=8, **each)
            for each in ({"reconstruct": False}, {"ridge": 0.1})
        ]
        report = results[1].provenance().method.reconstruction
        assert report.problem is None
        parent = embed(model)
        near = [float(torch.cosine_similarity(embed(each.model), parent).mean()) for each in results]
        assert near[1] > near[0] or not report.kept
        assert embed(results[1].model).shape == parent.shape

    def test_with_everything_else(self, bert, toy_triplets, tmp_path):
        options = {"hidden": 0.5, "width": 0.5, "depth": 1, "vocabulary": tmp_path / "corpus.txt", "round_to": 8}
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        result = gaprune.prune(bert, domain=toy_triplets, layer_triplets=5, out=tmp_path / "out", **options)
        kinds = [cut.kind for cut in result.provenance().method.pruning.removed]
        assert kinds == ["depth", "hidden", "width", "vocabulary"]
        config = result.model.transformers_model.config
        assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 2, 24)
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        torch.testing.assert_close(embed(opened), embed(result.model), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("criterion", ["activation", "magnitude", "random", "dai:alpha=0.2"])
    def test_criteria(self, bert, toy_triplets, criterion):
        result = gaprune.prune(
            bert, domain=toy_triplets, general=GENERAL, criterion=criterion, hidden=0.5, round_to=8, reconstruct=False
        )
        assert result.model.transformers_model.config.hidden_size == KEPT

    def test_a_child_is_cut_again(self, bert, toy_triplets):
        options = {"domain": toy_triplets, "round_to": 8, "reconstruct": False}
        first = gaprune.prune(bert, hidden=0.25, **options).model
        second = gaprune.prune(first, hidden=0.3, **options).model
        assert second.transformers_model.config.hidden_size == KEPT
        assert len(second) == len(first) == len(bert) + 1

    @pytest.mark.parametrize("target", ["parameters=13k", "speedup=3"])
    def test_a_target_beside_hidden_dimensions(self, bert, toy_triplets, target):
        options = {"domain": toy_triplets, "hidden": 0.5, "round_to": 8, "layer_triplets": 5, "reconstruct": False}
        result = gaprune.prune(bert, target=target, **options)
        found = result.provenance().method.pruning.target
        assert result.model.transformers_model.config.hidden_size == KEPT
        assert found.chosen.parameters == sum(each.numel() for each in result.model.parameters())
        weights = [
            sum(each.module.weight.numel() for each in linear_layers(model) if each.layer is not None)
            for model in (bert, result.model)
        ]
        assert found.chosen.speedup == pytest.approx(weights[0] / weights[1])
        assert found.chosen.parameters <= 13_000 or found.chosen.speedup >= 3

    def test_numbers_that_cannot_be(self, bert, toy_triplets):
        with pytest.raises(ConfigError, match=r"hidden: 0.1 of 32 hidden dimensions in multiples of 64 would leave"):
            gaprune.prune(bert, domain=toy_triplets, hidden=0.1)
