"""Options that save memory do what they say, and do not only leave the zeros alone."""

from __future__ import annotations

import pytest
import torch

from gaprune.models.linear_layers import linear_layers
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import read_recovery_data
from gaprune.recovery.recover_model import recover_model


@pytest.fixture
def trained(quick, many, tmp_path):
    """Train for a step and return the shape and type of every output of the first matrix of the blocks."""

    def run(model, **given):
        seen = []
        handle = linear_layers(model)[0].module.register_forward_hook(
            lambda _module, _inputs, output: seen.append((tuple(output.shape), output.dtype))
        )
        options = quick(steps=1, held_out=0, **given)
        recover_model(model, read_recovery_data(options, domain=many), options, Checkpoints(tmp_path))
        handle.remove()
        return seen

    return run


@pytest.mark.parametrize("family", ["bert", "qwen3"], indirect=True)
class TestMemory:
    def test_by_default_a_batch_at_once(self, model, trained):
        seen = trained(model)
        assert [shape[0] for shape, _ in seen] == [6, 6], "queries, then positives"
        assert {dtype for _, dtype in seen} == {torch.float32}

    def test_bfloat16(self, model, trained):
        assert {dtype for _, dtype in trained(model, bf16=True)} == {torch.bfloat16}
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}

    def test_activations_are_computed_again(self, model, trained):
        once, again = trained(model), trained(model, gradient_checkpointing=True)
        assert len(again) == 2 * len(once)
        assert not model.transformers_model.is_activation_checkpointing

    def test_a_few_texts_at_a_time(self, model, trained):
        seen = trained(model, mini_batch_size=2)
        assert {shape[0] for shape, _ in seen} == {2}
        assert len(seen) == 12, "each of six mini-batches without gradients, then with"
