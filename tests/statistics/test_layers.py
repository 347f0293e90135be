"""Layers skipped: what the loss and the embeddings suffer, against models that really lack them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from gaprune.config.measurement import MeasurementOptions
from gaprune.models.blocks import blocks
from gaprune.models.prompts import Prompts
from gaprune.pruning.cut import remove_layers
from gaprune.statistics.degradation import ReferenceOutputs, layer_effects
from gaprune.statistics.losses import info_nce

PROMPTS = Prompts("cash: ", "a ")


def embed(model, triplets):
    queries = [PROMPTS.query + item.query for item in triplets]
    passages = [PROMPTS.passage + text for item in triplets for text in item.passages]
    return [torch.from_numpy(model.encode(texts, prompt="", show_progress_bar=False)) for texts in (queries, passages)]


def loss(model, triplets, *, in_batch=True):
    owners = torch.tensor([index for index, item in enumerate(triplets) for _ in item.passages])
    return info_nce(*embed(model, triplets), owners, temperature=0.05, in_batch=in_batch).mean().item()


@pytest.mark.parametrize("negatives", ["in-batch", "explicit"])
def test_effects_are_those_of_models_without_the_layer(model, family, toy_triplets, negatives):
    options = MeasurementOptions(negatives=negatives)
    layers = [1] if family == "modernbert" else [0, 1]
    found = layer_effects(model, {"domain": toy_triplets}, layers=layers, prompts=PROMPTS, options=options)
    effects = list(found["domain"].values())
    assert [effect.layer for effect in effects] == list(found["domain"]) == layers
    in_batch = negatives == "in-batch"
    dense = loss(model, toy_triplets, in_batch=in_batch)
    assert ReferenceOutputs(model, toy_triplets, prompts=PROMPTS, options=options).loss == pytest.approx(
        dense, abs=1e-4
    )
    for effect in effects:
        cut = remove_layers(model, [effect.layer])
        assert effect.loss == pytest.approx(loss(cut, toy_triplets, in_batch=in_batch) - dense, abs=1e-3)
        pairs = zip(embed(model, toy_triplets), embed(cut, toy_triplets), strict=True)
        cosines = torch.cat([functional.cosine_similarity(*pair) for pair in pairs])
        assert effect.distance == pytest.approx((1 - cosines).mean().item(), abs=1e-4)
        assert 0 < effect.block_influence < 2
    assert ReferenceOutputs(model, toy_triplets, prompts=PROMPTS, options=options).loss == pytest.approx(
        dense, abs=1e-4
    )


def test_beside_layers_that_are_gone_already(bert, toy_triplets):
    """Of both layers together the whole model suffers what it suffers without any."""
    texts = {"domain": toy_triplets, "general": toy_triplets[:3]}
    found = layer_effects(bert, texts, layers=[1], prompts=PROMPTS, options=MeasurementOptions(), skipped=[0])
    whole = {kind: (loss(bert, each), torch.cat(embed(bert, each))) for kind, each in texts.items()}
    for block in blocks(bert):
        block.forward = lambda hidden, *_args, **_kwargs: hidden
    for kind, each in texts.items():
        effect = found[kind][1]
        assert effect.loss == pytest.approx(loss(bert, each) - whole[kind][0], abs=1e-3)
        cosines = functional.cosine_similarity(whole[kind][1], torch.cat(embed(bert, each)), dim=1)
        assert effect.distance == pytest.approx(float((1 - cosines).mean()), abs=1e-4)


def test_influence_turns_states(bert, toy_triplets):
    """A block that doubles its input turns nothing."""
    blocks(bert)[0].forward = lambda hidden, *_args, **_kwargs: hidden * 2
    texts, options = {"domain": toy_triplets}, MeasurementOptions()
    first, second = layer_effects(bert, texts, layers=[0, 1], prompts=PROMPTS, options=options)["domain"].values()
    assert first.block_influence == pytest.approx(0, abs=1e-5)
    assert second.block_influence > 0.01


def test_padding_does_not_count_for_the_influence_of_a_block(model, toy_triplets):
    """Against every text alone, without padding."""
    found = blocks(model)
    turned = [[] for _ in found]

    def hook(index):
        def read(_module, args, kwargs, output):
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            turned[index].append(1 - functional.cosine_similarity(before[0].double(), after[0].double(), dim=-1))

        return read

    handles = [block.register_forward_hook(hook(index), with_kwargs=True) for index, block in enumerate(found)]
    for item in toy_triplets:
        for text in (PROMPTS.query + item.query, *(PROMPTS.passage + passage for passage in item.passages)):
            model.encode([text], prompt="", show_progress_bar=False)
    for handle in handles:
        handle.remove()
    options = MeasurementOptions()
    effects = layer_effects(model, {"domain": toy_triplets}, layers=[1], prompts=PROMPTS, options=options)["domain"]
    assert effects[1].block_influence == pytest.approx(float(torch.cat(turned[1]).mean()), rel=1e-4)
