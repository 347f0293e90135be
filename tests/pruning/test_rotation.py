"""Models with RMSNorm: their residual stream is rotated before dimensions are cut, and they stay ordinary folders."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from families import TEXTS
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, ModelError
from gaprune.models.linear_layers import linear_layers
from gaprune.pruning.removable.hidden import Hidden
from gaprune.pruning.rotation import rotate
from toys import GENERAL

SIZE, KEPT = 32, 16
RMS = ("qwen3", "llama", "mistral")


def embed(model):
    return torch.from_numpy(model.encode(list(TEXTS), show_progress_bar=False))


@pytest.fixture(params=RMS)
def decoder(request, folder_of):
    """A decoder whose norms have scales of their own."""
    model = SentenceTransformer(str(folder_of(request.param)), device="cpu")
    draw = torch.Generator().manual_seed(1)
    for module in model.transformers_model.modules():
        if "Norm" in type(module).__name__:
            module.weight.data += 0.3 * torch.randn(module.weight.shape, generator=draw)
    return model


def axes():
    return torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]


def test_a_rotated_model_embeds_as_before(decoder, tmp_path):
    rotated = rotate(decoder, axes())
    table, other = (each.transformers_model.get_input_embeddings().weight for each in (decoder, rotated))
    assert (table - other).abs().max() > 0.1
    torch.testing.assert_close(embed(rotated), embed(decoder), rtol=0, atol=1e-5)
    rotated.save_pretrained(str(tmp_path), create_model_card=False)
    torch.testing.assert_close(embed(SentenceTransformer(str(tmp_path), device="cpu")), embed(rotated))


def test_cut_is_masked(decoder, toy_triplets):
    """What is written to the removed axes is zero; norms still divide by the length over all of them.

    The constant that norms add to the mean square is not scaled with the number of dimensions, so here it is zero.
    """
    decoder.transformers_model.config.rms_norm_eps = 0.0
    for module in decoder.transformers_model.modules():
        if "Norm" in type(module).__name__:
            module.variance_epsilon = 0.0
    result = gaprune.prune(decoder, domain=toy_triplets, hidden=0.5, round_to=8, rotate=True, reconstruct=False)
    kept = result.provenance().method.pruning.removed[0].kept["hidden"]
    assert list(kept) == list(range(KEPT))
    masked = rotate(decoder, axes())
    for linear in linear_layers(masked):
        if linear.writes_residual:
            linear.module.weight.data[KEPT:] = 0
    masked.transformers_model.get_input_embeddings().weight.data[:, KEPT:] = 0
    removable = Hidden(Recipe.build({"hidden": 0.5, "round_to": 8, "rotate": True}))
    cut = removable.cut(rotate(decoder, axes()), removable.chosen(decoder, KEPT, {}))
    torch.testing.assert_close(embed(cut.double()), embed(masked.double()), rtol=1e-5, atol=1e-6)
    assert result.model.transformers_model.config.hidden_size == cut.transformers_model.config.hidden_size == KEPT


@pytest.mark.parametrize("decoder", ["llama"], indirect=True)
def test_principal_axes_cost_less_than_coordinates(decoder, toy_triplets, tmp_path):
    near = {}
    for turned in (False, True):
        options = {"domain": toy_triplets, "general": GENERAL, "hidden": 0.5, "round_to": 8, "rotate": turned}
        result = gaprune.prune(decoder, reconstruct=False, out=tmp_path / str(turned), **options)
        near[turned] = float(torch.cosine_similarity(embed(result.model), embed(decoder)).mean())
        opened = SentenceTransformer(str(tmp_path / str(turned)), device="cpu")
        torch.testing.assert_close(embed(opened), embed(result.model), rtol=0, atol=1e-6)
    assert near[True] > near[False]


@pytest.mark.parametrize("decoder", ["llama"], indirect=True)
def test_with_other_units_and_reconstruction(decoder, toy_triplets):
    options = {"hidden": 0.25, "width": 0.5, "depth": 1, "round_to": 8, "rotate": True, "layer_triplets": 5}
    result = gaprune.prune(decoder, domain=toy_triplets, **options)
    assert [cut.kind for cut in result.provenance().method.pruning.removed] == ["depth", "hidden", "width"]
    assert embed(result.model).shape == embed(decoder).shape
    assert result.provenance().sparsity.parent_parameters == sum(each.numel() for each in decoder.parameters())


@pytest.mark.parametrize("decoder", ["llama"], indirect=True)
def test_with_two_kinds_of_pooling(decoder, toy_triplets):
    from sentence_transformers.sentence_transformer.modules import Pooling

    decoder[1] = Pooling(SIZE, pooling_mode=["cls", "mean"])
    torch.testing.assert_close(embed(rotate(decoder, axes())), embed(decoder), rtol=0, atol=1e-5)
    result = gaprune.prune(decoder, domain=toy_triplets, hidden=0.5, round_to=8, rotate=True, reconstruct=False)
    assert embed(result.model).shape == embed(decoder).shape == (len(embed(decoder)), 2 * SIZE)


class TestRefused:
    def test_norms_that_subtract_a_mean(self, bert, toy_triplets):
        with pytest.raises(ModelError, match="LayerNorm, which does more than RMSNorm"):
            gaprune.prune(bert, domain=toy_triplets, hidden=0.5, round_to=8, rotate=True)

    def test_norms_of_what_is_added(self, folder_of, monkeypatch):
        """Gemma's embeddings are scaled too; without that, its norms after attention and FFN are the obstacle."""
        gemma = SentenceTransformer(str(folder_of("gemma")), device="cpu")
        with pytest.raises(ModelError, match="multiplies embeddings by a factor"):
            rotate(gemma, axes())
        gemma.transformers_model.embed_tokens.embed_scale = torch.tensor(1.0)
        with pytest.raises(ModelError, match="read by something other than linear layers"):
            rotate(gemma, axes())

    @pytest.mark.parametrize("decoder", ["qwen3"], indirect=True)
    def test_pooling_by_the_maximum(self, decoder):
        from sentence_transformers.sentence_transformer.modules import Pooling

        decoder[1] = Pooling(SIZE, pooling_mode="max")
        with pytest.raises(ModelError, match="pools by the maximum"):
            rotate(decoder, axes())

    def test_nothing_to_rotate_for(self):
        with pytest.raises(ConfigError, match="rotate: it is for a given number of hidden dimensions"):
            Recipe.build({"target": "speedup=2", "search": "depth,width,hidden", "rotate": True})
