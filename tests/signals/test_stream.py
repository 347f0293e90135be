"""Block by block: moments against brute force, before and after the blocks change, over every family."""

from __future__ import annotations

import pytest
import torch
from plain_loop import PlainLoop, close
from torch import nn

from gaprune.anatomy import blocks, matrices, transformer_of
from gaprune.errors import SignalError
from gaprune.models import Prompts
from gaprune.signals import BlockStream


def of_block(model, index):
    return [matrix for matrix in matrices(model) if matrix.layer == index]


def walk(model, triplets, change=lambda _index: None, prompts=None):
    """All moments of a model whose blocks are changed on the way."""
    stream = BlockStream(model, triplets, prompts=prompts or Prompts(), batch_size=5, label="toy")
    found = {}
    for index in range(len(blocks(model))):
        change(index)
        found |= stream.moments(of_block(model, index))
        stream.advance()
    return found


def check(model, triplets, found, **prompts):
    inputs = PlainLoop(model, **prompts).inputs(triplets)
    for name, moments in found.items():
        close(moments.gram, inputs[name].T @ inputs[name] / len(inputs[name]))
        close(moments.mean, inputs[name].mean(0))


def test_moments_of_the_model_as_it_is(model, toy_triplets):
    cached = getattr(transformer_of(model).config, "use_cache", None)
    check(model, toy_triplets, walk(model, toy_triplets))
    assert getattr(transformer_of(model).config, "use_cache", None) == cached
    check(
        model, toy_triplets, walk(model, toy_triplets, prompts=Prompts("cash: ", "a ")), query="cash: ", passage="a "
    )


def test_later_blocks_see_what_earlier_ones_give_now(model, toy_triplets):
    def halve(index):
        with torch.no_grad():
            for matrix in of_block(model, index):
                matrix.module.weight *= 0.5

    before = walk(model, toy_triplets)
    after = walk(model, toy_triplets, halve)
    check(model, toy_triplets, after)
    assert any((after[name].gram - before[name].gram).abs().max() > 1e-3 for name in after)


def test_mixing(bert, toy_triplets):
    first, second = (walk(bert, part) for part in (toy_triplets[:3], toy_triplets[3:]))
    name = "encoder.layer.1.output.dense"
    mixed = first[name].mixed(second[name], 0.25)
    close(mixed.gram, 0.75 * first[name].gram + 0.25 * second[name].gram, 1e-6)
    close(mixed.seen(centred=True), mixed.gram - torch.outer(mixed.mean, mixed.mean), 1e-6)
    assert mixed.seen(centred=False) is mixed.gram


def test_a_block_that_does_not_run_is_named(bert, toy_triplets, monkeypatch):
    monkeypatch.setattr("gaprune.signals.stream.blocks", lambda model: [*blocks(model), nn.Identity()])
    with pytest.raises(SignalError, match=r"2 of 3 ran"):
        BlockStream(bert, toy_triplets, prompts=Prompts(), batch_size=5, label="toy")
