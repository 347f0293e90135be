"""Two processes with half of a batch each train as one does with all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import gaprune
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.recovery.masked_training import zero_masks
from toys import triplets_file


@pytest.fixture
def folder(folder_of, tmp_path):
    """A pruned tiny BERT without dropout, which every process draws for itself."""
    model = gaprune.prune(load_model(folder_of("bert"), device="cpu"), criterion="magnitude", targets="all").model
    config = model.transformers_model.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(tmp_path / "pruned"), create_model_card=False)
    return tmp_path / "pruned"


CALL = """
import os

from gaprune.cli.app import main
from gaprune.recovery.trainer import RecoveryTrainer

step = RecoveryTrainer.training_step


def killed(self, *args, **options):
    if self.state.global_step == 3 and "KILLED" in os.environ:
        os._exit(9)
    return step(self, *args, **options)


RecoveryTrainer.training_step = killed
main()
"""


@pytest.fixture
def launch(tmp_path):
    """Run the command in so many processes, and return how it ended."""
    call = tmp_path / "call.py"
    call.write_text(CALL, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(processes, *arguments, **variables):
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        return subprocess.run(
            [sys.executable, *(launcher if processes > 1 else ()), str(call), "recover", *map(str, arguments)],
            env=environment | variables, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    return run


@pytest.fixture
def options(many, tmp_path):
    """What every run here is told."""
    return [
        "--domain", triplets_file(tmp_path / "many.jsonl", many), "--steps", 4, "--batch-size", 8,
        "--set", "evaluate_every=2", "--set", "held_out=0.2", "--set", "device=cpu", "--json",
    ]  # fmt: skip


def test_killed_and_resumed(folder, launch, options, tmp_path):
    options = [folder, *options, "--set", "lora=2", "--bf16"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert launch(2, *options, "--out", whole).returncode == 0
    assert launch(2, *options, "--out", out, KILLED="yes").returncode != 0
    assert not out.exists()
    (point,) = (tmp_path / "out.checkpoints").glob("triplets/checkpoint-*")
    assert point.name == "checkpoint-2"
    done = launch(1, *options, "--out", out, "--resume")
    assert "different processes" in done.stderr
    done = launch(2, *options, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = (load_file(each / "model.safetensors") for each in (whole, out))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before, after = (zero_masks(linear_layers(load_model(each, device="cpu"))) for each in (folder, out))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "more", [["--distil"], ["--set", "mini_batch_size=3", "--set", "gradient_checkpointing=true"]], ids=str
)
def test_like_one(folder, folder_of, launch, options, tmp_path, more):
    options = [folder, *options, "--set", "hard_negatives=1", *more]
    if "--distil" in more:
        options += ["--parent", folder_of("bert"), "--set", f"teacher_cache={tmp_path / 'cache'}"]
    for processes in (1, 2):
        done = launch(processes, *options, "--out", tmp_path / f"out{processes}")
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["recoveries"], "one process speaks for all"
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
