"""Whole models: each block is fitted to the output of the blocks before it after their own reconstruction."""

from __future__ import annotations

import copy

import pytest
import torch

from gaprune.models.blocks import removable_layers
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.models.units import unit_groups
from gaprune.pruning.cut import remove_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.least_squares import fit_columns
from gaprune.reconstruction.paired_stream import PairedBlockStream
from gaprune.reconstruction.reconstruct import reconstruct_blocks


def stream(model, triplets):
    return BlockStream(model, triplets, prompts=Prompts(), batch_size=8)


def paired(changing, parent, triplets, kept=None):
    return PairedBlockStream(stream(changing, triplets), stream(parent, triplets), kept)


def half(groups):
    return {group.name: torch.arange(group.units * group.consumer.columns_per_unit) % 2 == 0 for group in groups}


def modules(model):
    return {matrix.name: matrix.module for matrix in linear_layers(model)}


def test_blocks_are_reconstructed_one_after_the_other(model, toy_triplets):
    """By hand: moments of the first, its refit, then moments of the second in the model as it is by then."""
    groups = unit_groups(model, "width")
    keep = half(groups)
    expected = copy.deepcopy(model)
    for group in groups:
        by_hand = paired(expected, model, toy_triplets)
        for _ in range(group.layer):
            by_hand.advance()
        linear = modules(expected)[group.name]
        bias = None if linear.bias is None else linear.bias.detach()
        found = by_hand.moments([each for each in linear_layers(expected) if each.name == group.name])[group.name]
        weight, bias = fit_columns(linear.weight.detach(), bias, found, keep[group.name], ridge=0.1, name=group.name)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
    child = copy.deepcopy(model)
    reconstruct_blocks(child, keep, [(1.0, paired(child, model, toy_triplets))], ridge=0.1)
    for name, linear in modules(child).items():
        torch.testing.assert_close(linear.weight, modules(expected)[name].weight, rtol=1e-3, atol=1e-4)
        changed = not torch.equal(linear.weight, modules(model)[name].weight)
        assert changed == (name in keep)
    assert all(not modules(child)[name].weight[:, ~mask].any() for name, mask in keep.items())


def test_entries_of_every_matrix(model, toy_triplets):
    chosen = select(linear_layers(model), ["all"])
    generator = torch.Generator().manual_seed(0)
    keep = {matrix.name: torch.rand(matrix.module.weight.shape, generator=generator) < 0.6 for matrix in chosen}
    child, cut = copy.deepcopy(model), copy.deepcopy(model)
    reconstruct_blocks(child, keep, [(1.0, paired(child, model, toy_triplets))], ridge=0.01)
    with torch.no_grad():
        for name, mask in keep.items():
            modules(cut)[name].weight *= mask
    texts = [item.positive for item in toy_triplets]
    dense, reconstructed, plain = (
        torch.from_numpy(each.encode(texts, show_progress_bar=False)) for each in (model, child, cut)
    )
    assert (reconstructed - dense).norm() < (plain - dense).norm()
    for name, mask in keep.items():
        assert not modules(child)[name].weight[~mask].any()


@pytest.mark.parametrize("gone", [0, 1])
def test_layers_that_are_gone(model, family, toy_triplets, gone):
    """What is left makes up for a layer, whether blocks come after it or none.

    Gemma norms what is added to the residual stream, so that nothing is left that could make up for its last block.
    """
    if gone not in removable_layers(model):
        pytest.skip("its first block is built differently")
    cut = remove_layers(model, [gone])
    child = copy.deepcopy(cut)
    keep = {
        matrix.name: torch.ones(matrix.module.in_features, dtype=torch.bool)
        for matrix in linear_layers(cut)
        if matrix.layer is not None
    }
    reconstruct_blocks(child, keep, [(1.0, paired(child, model, toy_triplets, kept=[1 - gone]))], ridge=0.01)
    texts = [item.positive for item in toy_triplets]
    dense, reconstructed, plain = (
        torch.from_numpy(each.encode(texts, show_progress_bar=False)) for each in (model, child, cut)
    )
    if (family, gone) == ("gemma", 1):
        torch.testing.assert_close(reconstructed, plain)
    else:
        assert (reconstructed - dense).norm() < 0.9 * (plain - dense).norm()


def test_shares_of_two_kinds_of_texts(bert, toy_triplets):
    """A share of everything is the texts together, weighted by tokens."""
    keep = half(unit_groups(bert, "width"))
    parts = (toy_triplets[:3], toy_triplets[3:])
    tokens = [
        sum(
            int(bert.preprocess([text])["attention_mask"].sum())
            for item in part
            for text in (item.query, *item.passages)
        )
        for part in parts
    ]
    together, mixed = copy.deepcopy(bert), copy.deepcopy(bert)
    reconstruct_blocks(together, keep, [(1.0, paired(together, bert, toy_triplets))], ridge=0.1)
    shares = [(count / sum(tokens), paired(mixed, bert, part)) for count, part in zip(tokens, parts, strict=True)]
    reconstruct_blocks(mixed, keep, shares, ridge=0.1)
    for name in keep:
        torch.testing.assert_close(modules(mixed)[name].weight, modules(together)[name].weight, rtol=1e-3, atol=1e-4)


@pytest.mark.genuine
def test_the_genuine_model_loses_less(genuine):
    """Without half of all neurons the reconstructed model is nearer to its parent on texts of the same kind."""
    from gaprune.data.read import read_triplets
    from gaprune.data.samples import sample_triplets

    model = load_model(genuine, device="cpu", max_length=64)
    triplets = read_triplets(sample_triplets("finance"))
    keep = half(unit_groups(model, "width"))
    child, cut = copy.deepcopy(model), copy.deepcopy(model)
    reconstruct_blocks(child, keep, [(1.0, paired(child, model, triplets[:40]))], ridge=0.1)
    with torch.no_grad():
        for name, mask in keep.items():
            modules(cut)[name].weight *= mask
    texts = [item.positive for item in triplets[100:120]]
    dense, reconstructed, plain = (
        torch.from_numpy(each.encode(texts, show_progress_bar=False)) for each in (model, child, cut)
    )
    cosines = [torch.nn.functional.cosine_similarity(dense, each).mean().item() for each in (reconstructed, plain)]
    assert cosines[0] > cosines[1]
