"""Families that are built in other ways: each is pruned in every way and opens again, or is refused in words."""

from __future__ import annotations

import pytest
import transformers

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.errors import GapruneError, ModelError
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.pruning.calibration import CalibrationData, draw_calibration
from gaprune.pruning.cut import remove_layers
from gaprune.reconstruction.quick import Quick
from gaprune.statistics.degradation import ReferenceOutputs
from toys import GENERAL
from unusual import build_other

WRITERS = {
    "MT5Encoder": {"layer.0.SelfAttention.o", "layer.1.DenseReluDense.wo"},
    "Phi3": {"self_attn.o_proj", "mlp.down_proj"},
    "OPT": {"self_attn.out_proj", "fc2"},
    "DebertaV2": {"attention.output.dense", "output.dense"},
    "NomicBert": {"self_attn.o_proj", "mlp.down_proj"},
    "Gte": {"self_attn.o_proj", "mlp.down_proj"},
    "EuroBert": {"self_attn.o_proj", "mlp.down_proj"},
    "JinaEmbeddingsV3": {"self_attn.o_proj", "mlp.fc2"},
    "Roberta": {"attention.output.dense", "output.dense"},
}
"""What writes to the residual stream in a block of each family, as its source says."""

DEPENDS = "what stays depends on how many there are, or on their places"
REFUSED = [
    ("Bart", {"sparsity": 0.5}, "two stacks of blocks, encoder.layers and decoder.layers"),
    ("Qwen3Moe", {"sparsity": 0.5}, "experts"),
    ("SqueezeBert", {"depth": 1}, "cannot run one by one"),
    ("Longformer", {"sparsity": 0.5}, "cannot be measured"),
    ("DiffLlama", {"depth": 1}, f"Layers cannot be removed from this DiffLlamaModel: {DEPENDS}"),
    ("DiffLlama", {"heads": 0.5}, f"Attention head groups cannot be removed from this DiffLlamaModel: {DEPENDS}"),
    ("MiniCPM3", {"depth": 1}, f"Layers cannot be removed from this MiniCPM3Model: {DEPENDS}"),
    ("GPT2", {"depth": 1, "reconstruct": False}, f"Layers cannot be removed from this GPT2Model: {DEPENDS}"),
    ("Helium", {"heads": 0.5}, "do not fit the smaller configuration"),
    ("DiffLlama", {"heads": 0.25}, "DiffLlamaModel cannot have this smaller shape"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    built = {}

    def folder(name):
        if name not in built:
            built[name] = build_other(name, tmp_path_factory.mktemp(name))
        return built[name]

    return folder


@pytest.mark.parametrize("name", WRITERS)
def test_the_layers_that_write_to_the_residual_stream(folders, name):
    found = [layer for layer in linear_layers(load_model(folders(name), device="cpu")) if layer.writes_residual]
    assert {layer.name.partition(f".{layer.layer}.")[2] for layer in found} == WRITERS[name]
    assert len(found) == 4


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("options", [{"sparsity": 0.5}, {"width": 0.5, "round_to": 8}, {"depth": 1}], ids=str)
def test_it_is_pruned_and_reconstructed_and_opens_again(folders, name, options, toy_triplets, tmp_path, capsys):
    result = gaprune.prune(folders(name), domain=toy_triplets, general=GENERAL, out=tmp_path / "out", **options)
    assert result.method.reconstruction is not None
    assert ("Measuring" in capsys.readouterr().err) == ("depth" not in options), "layers are tried, not measured"
    assert abs(result.sparsity_of_selected - 0.5) < 0.1
    again = load_model(tmp_path / "out", device="cpu")
    texts = ["a dog runs", "cash and cash equivalents at the end of the period"]
    assert again.encode(texts) == pytest.approx(result.model.encode(texts), abs=1e-5)


@pytest.mark.parametrize(("name", "options", "words"), REFUSED)
def test_it_is_refused_before_anything_is_measured(folders, name, options, words, toy_triplets, tmp_path, capsys):
    with pytest.raises(GapruneError, match=words):
        gaprune.prune(folders(name), domain=toy_triplets, general=GENERAL, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    assert "Measuring" not in capsys.readouterr().err


def test_a_tower_for_images_is_refused_however_small(bert, toy_triplets):
    text = {"vocab_size": 96, "pad_token_id": 0, "hidden_size": 32, "num_hidden_layers": 6, "intermediate_size": 48}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    images = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    images |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=images, mm_tokens_per_image=4)
    bert[0].model = transformers.Gemma3Model(config)
    with pytest.raises(
        ModelError, match=r"vision_tower.encoder.layers and language_model.layers, and GAPrune changes one"
    ):
        gaprune.prune(bert, domain=toy_triplets, sparsity=0.5)


def test_disentangled_attention_is_refused_only_where_it_reads_positions(folders, toy_triplets):
    with pytest.raises(ModelError, match=r"query_proj cannot be measured"):
        gaprune.prune(folders("DebertaV2"), domain=toy_triplets, general=GENERAL, sparsity=0.5, targets=["attention"])
    result = gaprune.prune(folders("DebertaV2"), sparsity=0.5, criterion="magnitude", targets=["attention"])
    assert result.sparsity_of_selected == pytest.approx(0.5)


def test_parts_inside_a_bottleneck_do_not_write_to_the_residual_stream(folders, toy_triplets):
    found = [
        layer for layer in linear_layers(load_model(folders("MobileBert"), device="cpu")) if layer.writes_residual
    ]
    assert {layer.name.partition(f".{layer.layer}.")[2] for layer in found} == {"output.bottleneck.dense"}
    result = gaprune.prune(folders("MobileBert"), domain=toy_triplets, general=GENERAL, depth=1)
    assert result.method.reconstruction is not None


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"MT5Encoder"}))
def test_the_block_before_a_gap_makes_up_for_it(folders, name, toy_triplets):
    """Without its second layer a model is nearer to what it was if the FFN of the first is fitted to what followed."""
    parent = load_model(folders(name), device="cpu")
    data = CalibrationData(toy_triplets, None, frozenset({"domain"}))
    quick = Quick(parent, draw_calibration(parent, Recipe(), data), Recipe())
    found = quick([1])
    whole = ReferenceOutputs(parent, toy_triplets, prompts=Prompts(), options=Recipe())
    assert whole.changed(found)[1] < whole.changed(remove_layers(parent, [1]))[1]
