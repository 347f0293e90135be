"""Two processes with half of a batch each train as one does with all of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gaprune
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.recovery.masked_training import zero_masks
from gaprune.recovery.trainer import RecoveryTrainer
from launched import command, together
from toys import triplets_file


@pytest.fixture
def folder(folder_of, tmp_path):
    """A pruned tiny BERT without dropout, which every process draws for itself."""
    model = gaprune.prune(load_model(folder_of("bert"), device="cpu"), criterion="magnitude", targets="all").model
    config = model.transformers_model.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(tmp_path / "pruned"), create_model_card=False)
    return tmp_path / "pruned"


@pytest.fixture
def options(many, tmp_path):
    """What every run here is told."""
    return [
        "--domain", str(triplets_file(tmp_path / "many.jsonl", many)), "--steps", "4", "--batch-size", "8",
        "--set", "evaluate_every=2", "--set", "held_out=0.2", "--set", "device=cpu", "--json",
    ]  # fmt: skip


def test_killed_and_resumed(folder, options, tmp_path):
    whole, out, printed = tmp_path / "whole", tmp_path / "out", tmp_path / "printed"
    options = ["recover", str(folder), *options, "--set", "lora=2", "--bf16", "--out"]
    assert together(2, command, printed, *options, str(whole)) == [0, 0]
    assert together(2, _ends_after_three_steps, printed, *options, str(out)) == [9, 9]
    assert not out.exists()
    (point,) = (tmp_path / "out.checkpoints").glob("triplets/checkpoint-*")
    assert point.name == "checkpoint-2"
    assert together(1, command, printed, *options, str(out), "--resume") == [2]
    assert "different processes" in _errors(printed)
    assert together(2, command, printed, *options, str(out), "--resume") == [0, 0], _errors(printed)
    expected, found = (load_file(each / "model.safetensors") for each in (whole, out))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before, after = (zero_masks(linear_layers(load_model(each, device="cpu"))) for each in (folder, out))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "more", [["--distil"], ["--set", "mini_batch_size=3", "--set", "gradient_checkpointing=true"]], ids=str
)
def test_like_one(folder, folder_of, options, tmp_path, more):
    options = ["recover", str(folder), *options, "--set", "hard_negatives=1", *more]
    if "--distil" in more:
        options += ["--parent", str(folder_of("bert")), "--set", f"teacher_cache={tmp_path / 'cache'}"]
    for processes in (1, 2):
        printed = tmp_path / f"printed{processes}"
        codes = together(processes, command, printed, *options, "--out", str(tmp_path / f"out{processes}"))
        assert codes == [0] * processes, _errors(printed)
        assert json.loads(Path(f"{printed}-0.out").read_text(encoding="utf-8"))["recoveries"]
    assert not Path(f"{printed}-1.out").read_text(encoding="utf-8"), "one process speaks for all"
    one, two = (load_file(tmp_path / f"out{processes}" / "model.safetensors") for processes in (1, 2))
    start = load_file(folder / "model.safetensors")
    apart = torch.stack([(one[name] - two[name]).norm() for name in one]).norm()
    moved = torch.stack([(one[name] - start[name]).norm() for name in one]).norm()
    assert apart < 0.05 * moved
    curves = []
    for processes in (1, 2):
        content = json.loads((tmp_path / f"out{processes}" / "gaprune.json").read_text(encoding="utf-8"))
        training = content["recoveries"][0]["training"]
        assert training["processes"] == processes
        curves.append([loss for _, loss in training["curve"]])
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    before, after = (zero_masks(linear_layers(load_model(each, device="cpu"))) for each in (folder, tmp_path / "out2"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def _ends_after_three_steps(printed: Path, *arguments: str) -> None:
    step = RecoveryTrainer.training_step

    def killed(self, *args, **options):
        if self.state.global_step == 3:
            os._exit(9)
        return step(self, *args, **options)

    RecoveryTrainer.training_step = killed
    command(printed, *arguments)


def _errors(printed: Path) -> str:
    return Path(f"{printed}-0.err").read_text(encoding="utf-8")[-3000:]
