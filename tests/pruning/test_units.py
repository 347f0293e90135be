"""Units and layers cut out: the smaller model is the masked one, saves, reloads and leaves its parent alone."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from families import FAMILIES, TEXTS
from gaprune.errors import ModelError, SelectionError
from gaprune.models.blocks import blocks, removable_layers
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.units import unit_groups
from gaprune.pruning.cut import remove_layers, remove_units

HEADS = ("qwen3", "mistral", "llama", "gemma")


def embed(model):
    return torch.from_numpy(model.encode(list(TEXTS), show_progress_bar=False))


def chosen(groups, stay):
    """Another choice of units in every group."""
    keep = {}
    for seed, group in enumerate(groups):
        order = torch.randperm(group.units, generator=torch.Generator().manual_seed(seed))
        keep[group.name] = torch.zeros(group.units, dtype=torch.bool)
        keep[group.name][order[:stay]] = True
    return keep


def masked(model, groups, keep):
    """The same model with the columns that read removed units set to zero."""
    masked = copy.deepcopy(model)
    by_name = {matrix.name: matrix.module.weight for matrix in linear_layers(masked)}
    with torch.no_grad():
        for group in groups:
            by_name[group.name][:, ~keep[group.name].repeat_interleave(group.consumer.columns_per_unit)] = 0
    return masked


def round_trip(model, folder):
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("kind", ["width", "heads"])
def test_cut_is_masked(model, family, kind, tmp_path):
    if kind == "heads" and family not in HEADS:
        with pytest.raises(ModelError, match=r"has no head_dim"):
            unit_groups(model, kind)
        return
    before = {name: value.clone() for name, value in model.state_dict().items()}
    groups = unit_groups(model, kind)
    keep = chosen(groups, groups[0].units // 2)
    cut = remove_units(model, groups, keep)
    expected = embed(masked(model, groups, keep))
    torch.testing.assert_close(embed(cut), expected, rtol=0, atol=1e-5)
    assert (expected - embed(model)).abs().max() > 1e-3
    torch.testing.assert_close(embed(round_trip(cut, tmp_path / "cut")), embed(cut), rtol=0, atol=1e-6)
    gone = sum(group.units // 2 * group.parameters for group in groups)
    sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (model, cut)]
    assert sizes[0] - sizes[1] == gone > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    shared = {value.data_ptr() for value in model.state_dict().values()}
    assert shared.isdisjoint(value.data_ptr() for value in cut.state_dict().values())


def test_transformers_alone_opens_it(model, tmp_path):
    groups = unit_groups(model, "width")
    cut = remove_units(model, groups, chosen(groups, 16))
    cut.save_pretrained(str(tmp_path / "cut"), create_model_card=False)
    reloaded = AutoModel.from_pretrained(str(tmp_path / "cut"))
    inside = cut.transformers_model
    assert reloaded.state_dict().keys() == inside.state_dict().keys()
    assert all(torch.equal(value, inside.state_dict()[name]) for name, value in reloaded.state_dict().items())
    assert {group.units for group in unit_groups(cut, "width")} == {16}


@pytest.mark.parametrize("removed", [0, 1])
def test_layers_go(model, family, removed, tmp_path):
    if family == "modernbert" and removed == 0:
        assert removable_layers(model) == [1]
        with pytest.raises(ModelError, match="Layer 0 of this ModernBertModel is built differently"):
            remove_layers(model, [0])
        return
    skipped = copy.deepcopy(model)
    block = blocks(skipped)[removed]
    plain = block.forward

    def skip(hidden, *args, **kwargs):
        output = plain(hidden, *args, **kwargs)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    block.forward = skip
    cut = remove_layers(model, [removed])
    assert len(blocks(cut)) == 1
    assert len(blocks(model)) == 2
    torch.testing.assert_close(embed(cut), embed(skipped), rtol=0, atol=1e-5)
    torch.testing.assert_close(embed(round_trip(cut, tmp_path / "cut")), embed(cut), rtol=0, atol=1e-6)


def test_wrong_decisions_are_refused(bert):
    groups = unit_groups(bert, "width")
    keep = chosen(groups, 16)
    with pytest.raises(SelectionError, match=r"layer.1.output.dense: 48 units, and the decision has none"):
        remove_units(bert, groups, {groups[0].name: keep[groups[0].name]})
    uneven = keep | {groups[1].name: torch.ones(48, dtype=torch.bool)}
    with pytest.raises(SelectionError, match=r"layer.1.output.dense keeps 48 units, encoder.layer.0.output.dense 16"):
        remove_units(bert, groups, uneven)
    nothing = {name: torch.zeros(48, dtype=torch.bool) for name in keep}
    with pytest.raises(SelectionError, match="at least one must be kept"):
        remove_units(bert, groups, nothing)
    with pytest.raises(SelectionError, match="layers 0 to 1; there is no layer 2"):
        remove_layers(bert, [2])
    with pytest.raises(SelectionError, match="at least one must be kept"):
        remove_layers(bert, [0, 1])


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def test_blocks_whose_units_are_not_in_linear_layers(tmp_path):
    """Experts are no linear layers; a table of T5 has an entry for every head and would keep them all."""

    def experts(vocabulary, pad):
        options = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 24, "num_key_value_heads": 2}
        config = transformers.Qwen3MoeConfig(vocab_size=vocabulary, pad_token_id=pad, head_dim=8, **SMALL, **options)
        return transformers.Qwen3MoeModel(config)

    def relative(vocabulary, pad):
        config = transformers.T5Config(
            vocab_size=vocabulary, pad_token_id=pad, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
        )
        return transformers.T5EncoderModel(config)

    for family, network, kind, other, problem in (
        ("mistral", experts, "width", "heads", r"layers.0 \(Qwen3MoeDecoderLayer\) has no FFN of linear layers"),
        ("xlm-roberta", relative, "heads", "width", r"encoder.block.0.*relative_attention_bias is a table .* head"),
    ):
        folder = tmp_path / family
        folder.mkdir()
        model = load_model(dataclasses.replace(FAMILIES[family], network=network)(folder), device="cpu")
        with pytest.raises(ModelError, match=problem):
            unit_groups(model, kind)
        groups = unit_groups(model, other)
        keep = chosen(groups, groups[0].units // 2)
        expected = embed(masked(model, groups, keep))
        torch.testing.assert_close(embed(remove_units(model, groups, keep)), expected, rtol=0, atol=1e-5)


def test_a_configuration_can_refuse(folder_of):
    """Gemma wants its hidden size to be a multiple of its heads."""
    model = SentenceTransformer(str(folder_of("gemma")), device="cpu")
    groups = unit_groups(model, "heads")
    transformer = model.transformers_model
    transformer.config.hidden_size = 36
    transformer.config.num_attention_heads = 4
    keep = chosen(groups, 1)
    for group in groups:
        group.fields["num_attention_heads"] = 5
    with pytest.raises(ModelError, match="Gemma3TextConfig does not allow num_attention_heads 5"):
        remove_units(model, groups, keep)
