"""Zeros before are zeros after, bit by bit, on every family and in every way of training."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

import gaprune
from families import FAMILIES, TEXTS
from gaprune.config.recovery import RecoveryOptions
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import read_recovery_data
from gaprune.recovery.lora import low_rank
from gaprune.recovery.masked_training import check_masked, masked_training, without_dropout, zero_masks
from gaprune.recovery.recover_model import recover_model
from gaprune.recovery.trainer import RecoveryTrainer
from unusual import OTHERS, build_other


@pytest.fixture
def after_every_step(monkeypatch):
    """Steps after which every weight that was zero, and all that the optimiser remembers of it, was zero."""
    step, zeros, steps = RecoveryTrainer.training_step, {}, []

    def look(self, *args, **options):
        for name, weight in self.model.named_parameters():
            if weight.ndim != 2 or "lora_" in name:  # LoRA starts from zeros of its own
                continue
            held = zeros.setdefault(name, weight.detach() == 0)
            assert not weight[held].any()
            state = [value for value in self.optimizer.state.get(weight, {}).values() if value.shape == held.shape]
            if held.any():
                assert len(state) == (2 if self.state.global_step and weight.requires_grad else 0)
            assert not any(value[held].any() for value in state)
            assert all(value[~held].any() for value in state)
        steps.append(self.state.global_step)
        return step(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, "training_step", look)
    return steps


def recovered(model, options, triplets, folder):
    """Train ``model`` and return its zeros before, its weights before and how it went."""
    zeros = zero_masks(linear_layers(model))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    went = recover_model(model, read_recovery_data(options, domain=triplets), options, Checkpoints(folder))
    return zeros, before, went


def same_zeros(model, zeros):
    now = zero_masks(linear_layers(model))
    return now.keys() == zeros.keys() and all(torch.equal(now[name], zeros[name]) for name in zeros)


def moved(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_on_every_family(pruned, quick, many, tmp_path, after_every_step):
    zeros, before, went = recovered(pruned, quick(held_out=0), many, tmp_path)
    assert after_every_step == [0, 1, 2]
    assert same_zeros(pruned, zeros)
    assert went.masked_weights == sum(int(each.sum()) for each in zeros.values()) > 0
    assert len(moved(pruned, before)) > len(zeros)
    assert not pruned.training


@pytest.mark.parametrize("family", ["bert", "qwen3", "gemma"], indirect=True)
@pytest.mark.parametrize(
    "given",
    [
        {"lora": 2},
        {"lora": 2, "bf16": True, "gradient_checkpointing": True},
        {"bf16": True, "mini_batch_size": 4},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_in_every_way(pruned, quick, many, tmp_path, given, after_every_step):
    zeros, before, _ = recovered(pruned, quick(held_out=0, **given), many, tmp_path)
    assert after_every_step == [0, 1, 2]
    assert same_zeros(pruned, zeros)
    changed = moved(pruned, before)
    if "lora" in given:
        assert {name.removesuffix(".weight").partition("model.")[2] for name in changed} == set(zeros)
    else:
        assert len(changed) > len(zeros)


@pytest.mark.parametrize("given", [{}, {"lora": 2}], ids=str)
def test_a_pattern(bert, quick, many, tmp_path, given, after_every_step):
    model = gaprune.prune(bert, criterion="magnitude", granularity="2:4").model
    zeros, _, _ = recovered(model, quick(held_out=0, **given), many, tmp_path)
    assert after_every_step == [0, 1, 2]
    assert same_zeros(model, zeros)
    for each in zeros.values():
        assert (each.view(len(each), -1, 4).sum(dim=2) == 2).all()


@pytest.mark.parametrize("family", ["bert", "gemma"], indirect=True)
def test_half_precision_is_kept(model, quick, many, tmp_path):
    model = gaprune.prune(model.bfloat16(), criterion="magnitude").model
    types = {name: value.dtype for name, value in (*model.named_parameters(), *model.named_buffers())}
    zeros, before, _ = recovered(model, quick(held_out=0), many, tmp_path)
    assert same_zeros(model, zeros)
    assert {name: value.dtype for name, value in (*model.named_parameters(), *model.named_buffers())} == types
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert moved(model, before)


def test_gradients_and_optimiser_state_are_zero_there(bert):
    matrix = linear_layers(bert)[0]
    weight = matrix.module.weight
    zeros = torch.rand(weight.shape) < 0.5
    with torch.no_grad():
        weight.masked_fill_(zeros, 0)
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    with masked_training([matrix], {matrix.name: zeros}) as after_step:
        (matrix.module(torch.ones(1, weight.shape[1])).sum() * torch.tensor(3.0)).backward()
    assert not weight.grad[zeros].any()
    assert weight.grad[~zeros].all()
    weight.grad.fill_(1.0)  # as something else might
    optimiser.step()
    assert weight[zeros].all()
    after_step(optimiser)
    assert not weight[zeros].any()
    state = optimiser.state[weight]
    for moment in ("exp_avg", "exp_avg_sq"):
        assert not state[moment][zeros].any()
        assert state[moment][~zeros].all()
    weight.grad = None
    matrix.module(torch.ones(1, weight.shape[1])).sum().backward()
    assert weight.grad.all()


@pytest.mark.parametrize("family", ["bert", "qwen3"], indirect=True)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_merging_changes_no_output(pruned, precision):
    texts = ["net income of the quarter", "a dog runs"]
    zeros = zero_masks(linear_layers(pruned))
    with low_rank(pruned, linear_layers(pruned), zeros, RecoveryOptions(lora=2)):
        trained = [value for name, value in pruned.named_parameters() if value.requires_grad]
        assert sum(value.numel() for value in trained) < 6000
        with torch.no_grad():
            for value in trained:
                value.normal_(std=0.3)
        pruned.eval()
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            before = pruned.encode(texts)
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        after = pruned.encode(texts)
    assert (before == after).all()
    assert same_zeros(pruned, zeros)
    assert type(linear_layers(pruned)[0].module) is torch.nn.Linear


def test_a_masked_weight_that_is_not_zero_is_an_error(bert, quick, many, tmp_path, monkeypatch):
    model = gaprune.prune(bert, criterion="magnitude", sparsity=0.5).model
    masks = zero_masks(linear_layers(model))
    assert check_masked(model, masks) == sum(int(mask.sum()) for mask in masks.values()) > 0
    monkeypatch.setattr("gaprune.recovery.recover_model.masked_training", lambda *_: nullcontext())
    with pytest.raises(RuntimeError, match=r"masked weights are not zero after training"):
        recovered(model, quick(held_out=0), many, tmp_path)


@pytest.mark.parametrize("name", [*FAMILIES, *(name for name in OTHERS if name != "Qwen3Moe")])
def test_no_dropout_in_a_distillation(folder_of, tmp_path, name):
    """Vectors are fitted to exact ones: two passes in training mode agree, whichever way a family drops out."""
    model = load_model(folder_of(name) if name in FAMILIES else build_other(name, tmp_path / name), device="cpu")
    model.train()
    features = model.preprocess(list(TEXTS))
    with torch.no_grad(), without_dropout(model):
        first, second = (model(dict(features))["sentence_embedding"] for _ in range(2))
    assert torch.equal(first, second)
