"""Models that flash attention lets read texts without padding are measured with padded texts."""

from __future__ import annotations

import pytest
import torch
from transformers import DataCollatorWithFlattening

from gaprune.config.measurement import MeasurementOptions
from gaprune.evaluation.cost.footprint import count_flops
from gaprune.models.encoders import TorchModel
from gaprune.models.load import load_model
from gaprune.models.modes import padded_inputs
from gaprune.models.prompts import Prompts
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.statistics.measure import measure
from plain_loop import reached


@pytest.fixture
def flattening(folder_of):
    """A model that lays texts end to end, as with ``attn_implementation="flash_attention_2"`` on a GPU."""
    model = load_model(folder_of("bert"), device="cpu")
    module = model[0]
    module.data_collator = DataCollatorWithFlattening(
        return_seq_idx=True, return_flash_attn_kwargs=True, return_position_ids=True
    )
    module._flatten_position_offset = 0
    module._can_flatten_inputs = lambda: True
    module.unpad_inputs = None
    assert "attention_mask" not in model.preprocess(["a", "b c"])
    return model


@pytest.fixture
def same_results(flattening, bert):
    """Return a function that compares what is found for both models."""

    def compare(find):
        found, expected = find(flattening), find(bert)
        assert "attention_mask" not in flattening.preprocess(["a", "b c"]), "it is left as it was"
        return found, expected

    return compare


@pytest.mark.parametrize("unpad", [None, True, False])
def test_it_is_left_as_it_was(flattening, unpad):
    flattening[0].unpad_inputs = unpad
    with pytest.raises(ZeroDivisionError), padded_inputs(flattening):
        1 / len(flattening.preprocess(["a", "b c"])["attention_mask"].shape[2:])
    assert flattening[0].unpad_inputs is unpad
    assert flattening[0].can_flatten_inputs is (unpad is not False)


def test_statistics(same_results, toy_triplets):
    def find(model):
        return measure(
            model,
            toy_triplets,
            reached(model),
            statistics={"fisher", "gram"},
            prompts=Prompts(),
            options=MeasurementOptions(),
        )

    found, expected = same_results(find)
    for name, each in expected.items():
        assert torch.equal(found[name].gram, each.gram)
        assert torch.equal(found[name].fisher, each.fisher)


def test_lengths_and_operations(same_results):
    found, expected = same_results(lambda model: (TorchModel(model).lengths(["a", "b c"]), count_flops(model)))
    assert found == expected


def test_blocks(same_results, toy_triplets):
    found, expected = same_results(
        lambda model: BlockStream(model.eval(), toy_triplets, prompts=Prompts(), batch_size=8).masks
    )
    assert all(map(torch.equal, found, expected))
