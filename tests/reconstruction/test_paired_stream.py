"""Block by block beside the parent: moments against brute force, as blocks change or go, over every family."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gaprune.errors import MeasurementError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.pruning.cut import remove_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.hook_points import HookPoint, residual_hook_points
from gaprune.reconstruction.paired_stream import PairedBlockStream
from plain_loop import PlainLoop, close


def of_block(model, index):
    return [matrix for matrix in linear_layers(model) if matrix.layer == index]


NORM_AFTER_SUM = ("post_attention_layernorm", "input"), ("", "output")
POINTS = {
    "bert": (("attention.output.LayerNorm", "input"), ("output.LayerNorm", "input")),
    "xlm-roberta": (("attention.output.LayerNorm", "input"), ("output.LayerNorm", "input")),
    "mpnet": (("attention.LayerNorm", "input"), ("output.LayerNorm", "input")),
    "distilbert": (("sa_layer_norm", "input"), ("output_layer_norm", "input")),
    "modernbert": (("mlp_norm", "input"), ("", "output")),
    "qwen3": NORM_AFTER_SUM,
    "mistral": NORM_AFTER_SUM,
    "llama": NORM_AFTER_SUM,
    "gemma": (("self_attn.o_proj", "output"), ("mlp.down_proj", "output")),
}
"""Where the residual stream is after attention, and after the FFN; Gemma norms what is added to it, not the sum."""


def paired_of(model, parent, triplets, prompts=None, kept=None):
    streams = (BlockStream(each, triplets, prompts=prompts or Prompts(), batch_size=5) for each in (model, parent))
    return PairedBlockStream(*streams, kept)


def walk(model, triplets, change=lambda _index: None, prompts=None):
    """All moments of a model whose blocks are changed on the way."""
    pair = paired_of(model, copy.deepcopy(model), triplets, prompts)
    found = {}
    for index in range(len(blocks(model))):
        change(index)
        found |= pair.moments(of_block(model, index))
        pair.advance()
    return found


def seen_at(model, triplets, places):
    """What comes by at each place (module, side) when texts run alone, ``(tokens, features)``."""
    found = [[] for _ in places]

    def hook(index, side):
        def hear(_module, args, output):
            value = args[0] if side == "input" else output[0] if isinstance(output, tuple) else output
            found[index].append(value[0].double())

        return hear

    handles = [module.register_forward_hook(hook(i, side)) for i, (module, side) in enumerate(places)]
    with torch.no_grad():
        for item in triplets:
            for text in (item.query, *item.passages):
                model(model.preprocess([text]))
    for handle in handles:
        handle.remove()
    return [torch.cat(rows) for rows in found]


def check_gaps(found, model, parent, triplets, pairs):
    """Hold gaps against what each place gives in both models; ``pairs`` are (name, place, place in the parent)."""
    modules = {matrix.name: matrix.module for matrix in linear_layers(model)}
    inputs = seen_at(model, triplets, [(modules[name], "input") for name, _, _ in pairs])
    outputs = seen_at(model, triplets, [place for _, place, _ in pairs])
    goals = seen_at(parent, triplets, [goal for _, _, goal in pairs])
    for (name, _, _), each, output, goal in zip(pairs, inputs, outputs, goals, strict=True):
        gaps = goal - output
        close(found[name].gap, gaps.mean(0), 1e-3)
        close(found[name].cross, (gaps - gaps.mean(0)).T @ each / len(each), 1e-3)


def halving(model):
    """Halve the matrices of a block when its turn comes."""

    def halve(index):
        with torch.no_grad():
            for matrix in of_block(model, index):
                matrix.module.weight *= 0.5

    return halve


def check(model, triplets, found, **prompts):
    inputs = PlainLoop(model, **prompts).inputs(triplets)
    for name, moments in found.items():
        close(moments.of_inputs(centred=False), inputs[name].T @ inputs[name] / len(inputs[name]))
        close(moments.mean, inputs[name].mean(0))


def test_moments_of_the_model_as_it_is(model, toy_triplets):
    cached = getattr(transformer_of(model).config, "use_cache", None)
    check(model, toy_triplets, walk(model, toy_triplets))
    assert getattr(transformer_of(model).config, "use_cache", None) == cached
    check(
        model, toy_triplets, walk(model, toy_triplets, prompts=Prompts("cash: ", "a ")), query="cash: ", passage="a "
    )


def test_later_blocks_see_what_earlier_ones_give_now(model, toy_triplets):
    before = walk(model, toy_triplets)
    assert not any(moments.gap.any() or moments.cross.any() for moments in before.values())
    after = walk(model, toy_triplets, halving(model))
    check(model, toy_triplets, after)
    assert any((after[name].covariance - before[name].covariance).abs().max() > 1e-3 for name in after)


@pytest.mark.parametrize("family", list(POINTS))
def test_where_the_residual_stream_is(family, folder_of):
    model = load_model(folder_of(family), device="cpu")
    block = blocks(model)[1]
    modules = {module: path for path, module in block.named_modules()}
    closing = [
        modules[each.module] for each in linear_layers(model) if each.writes_residual and each.module in modules
    ]
    found = residual_hook_points(block, closing, lambda: model.encode(["cash"], show_progress_bar=False))
    assert [(point.path, point.side) for point in found.values()] == list(POINTS[family])


def test_a_norm_before_the_sum():
    """Where what a matrix gives is normed before it is added, it is looked at by itself."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, hidden):
            return hidden + self.norm(self.down(hidden))

    block = Block()
    assert residual_hook_points(block, ["down"], lambda: block(torch.ones(1, 2, 4))) == {
        "down": HookPoint("down", "output")
    }


@pytest.mark.parametrize("family", list(POINTS))
def test_gaps_to_what_the_parent_gives(family, folder_of, toy_triplets):
    """The first block gives something else now; the matrices of the second are held against the parent's."""
    model = load_model(folder_of(family), device="cpu")
    parent = copy.deepcopy(model)
    pair = paired_of(model, parent, toy_triplets)
    halving(model)(0)
    pair.advance()
    found = pair.moments(of_block(model, 1))
    mine, its = blocks(model)[1], blocks(parent)[1]
    closing = [each.module for each in linear_layers(model) if each.writes_residual]
    points = iter(POINTS[family])
    pairs = []
    for matrix, other in zip(of_block(model, 1), of_block(parent, 1), strict=True):
        here, there = (matrix.module, "output"), (other.module, "output")
        if matrix.module in closing:
            path, side = next(points)
            here, there = (mine.get_submodule(path), side), (its.get_submodule(path), side)
        pairs.append((matrix.name, here, there))
    check_gaps(found, model, parent, toy_triplets, pairs)


@pytest.mark.parametrize("family", list(POINTS))
def test_gaps_to_what_blocks_that_are_gone_gave(family, folder_of, toy_triplets):
    """The last block is gone: the one before it is to end where that one ended, with that one's norm.

    What Gemma's last matrix gives is no sum, so it is held against its own.
    """
    parent = load_model(folder_of(family), device="cpu")
    with torch.no_grad():
        for name, weight in blocks(parent)[1].named_parameters():
            if "norm" in name.lower():
                weight.add_(0.5)
    model = remove_layers(parent, [1])
    pair = paired_of(model, parent, toy_triplets, kept=[0])
    pair.copy_final_norm()
    path, side = POINTS[family][1]
    mine, its = (blocks(each)[-1].get_submodule(path) for each in (model, parent))
    if family == "gemma":
        with torch.no_grad():
            of_block(model, 0)[-2].module.weight *= 0.5
        its = blocks(parent)[0].get_submodule(path)
    if side == "input":
        assert all(torch.equal(weight, its.state_dict()[name]) for name, weight in mine.state_dict().items())
    down = of_block(model, 0)[-1]
    found = pair.moments([down])
    check_gaps(found, model, parent, toy_triplets, [(down.name, (mine, side), (its, side))])


def test_a_block_that_does_not_run_is_named(bert, toy_triplets, monkeypatch):
    monkeypatch.setattr("gaprune.reconstruction.block_stream.blocks", lambda model: [*blocks(model), nn.Identity()])
    with pytest.raises(MeasurementError, match=r"2 of 3 ran"):
        BlockStream(bert, toy_triplets, prompts=Prompts(), batch_size=5)
