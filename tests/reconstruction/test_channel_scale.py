"""A channel with massive activations: the scale of a channel changes no reconstruction, in every family and dtype."""

from __future__ import annotations

import copy

import pytest
import torch

import gaprune
from families import FAMILIES
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.encode import encode
from gaprune.models.load import load_model

TEXTS = ["the bank raised the rate of interest", "a dog runs over green grass", "cash at the end of the period"]
SCALE = 1024.0
"""A power of two, so that half precision loses nothing by it."""

DTYPES = [(family, "float32") for family in FAMILIES]
DTYPES += [(family, dtype) for family in ("bert", "qwen3", "gemma") for dtype in ("bfloat16", "float16")]


@torch.no_grad()
def with_massive_channels(model, names):
    """Return a model of the same embeddings: channel 3 of the values, and of a gated FFN, is larger in every block."""
    scaled = copy.deepcopy(model)
    config = transformer_of(scaled).config
    for block in blocks(scaled):
        value, out = (block.get_submodule(names.attention[place]) for place in (-2, -1))
        fused = value.out_features == 3 * out.in_features
        row = 3 + (2 * out.in_features if fused else 0)
        head = getattr(config, "head_dim", None) or out.in_features // config.num_attention_heads
        repeats = 1 if fused else out.in_features // value.out_features
        scale(value, row, out, [3 + head * each for each in range(repeats)])
        if len(names.mlp) == 3:
            scale(block.get_submodule(names.mlp[1]), 3, block.get_submodule(names.mlp[2]), [3])
    return scaled


def scale(producer, row, consumer, columns):
    producer.weight[row] *= SCALE
    if producer.bias is not None:
        producer.bias[row] *= SCALE
    consumer.weight[:, columns] /= SCALE


@pytest.mark.parametrize(("family", "dtype"), DTYPES)
def test_the_scale_of_a_channel_changes_nothing(family, dtype, folder_of, toy_triplets):
    model = load_model(folder_of(family), device="cpu", dtype=dtype)
    parents = model, with_massive_channels(model, FAMILIES[family])
    options = {"criterion": "random", "sparsity": 0.4, "targets": "all", "reconstruct": True, "domain": toy_triplets}
    results = [gaprune.prune(parent, **options) for parent in parents]
    close = 1e-3 if dtype == "float32" else 0.02
    for pair in (parents, [each.model for each in results]):
        first, second = (encode(each, TEXTS, None, "", normalize=True) for each in pair)
        assert (1 - (first * second).sum(1)).max() < close
    moved = encode(results[0].model, TEXTS, None, "", normalize=True)
    assert (1 - (moved * encode(model, TEXTS, None, "", normalize=True)).sum(1)).max() > 1e-3
    first, second = (each.provenance().method.reconstruction for each in results)
    assert first.kept == second.kept
    assert first.degradation_reconstructed == pytest.approx(second.degradation_reconstructed, abs=10 * close)
