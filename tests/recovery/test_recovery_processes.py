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
from gaprune.anatomy import matrices
from gaprune.models import load_model
from gaprune.recovery import zeros_of
from toys import triplets_file


@pytest.fixture
def folder(folder_of, tmp_path):
    """A pruned tiny BERT without dropout, which every process draws for itself."""
    model = gaprune.prune(load_model(folder_of("bert"), device="cpu"), criterion="magnitude", targets="all").model
    config = model.transformers_model.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(tmp_path / "pruned"), create_model_card=False)
    return tmp_path / "pruned"


@pytest.mark.parametrize("more", [["--distil"], ["--mini-batch-size", "3", "--gradient-checkpointing"]], ids=str)
def test_like_one(folder, folder_of, many, tmp_path, more):
    options = ["--domain", str(triplets_file(tmp_path / "many.jsonl", many))]
    options += ["--steps", "4", "--batch-size", "8", "--evaluate-every", "2", "--held-out", "0.2"]
    options += ["--hard-negatives", "1", *more]
    options += ["--parent", str(folder_of("bert"))] if "--distil" in more else []
    options += ["--device", "cpu", "--json", "--teacher-cache", str(tmp_path / "cache")]
    call = tmp_path / "call.py"
    call.write_text("from gaprune.cli import main\n\nmain()\n", encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for processes in (1, 2):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        launch = launch if processes > 1 else [sys.executable]
        arguments = [str(call), "recover", str(folder), *options, "--out", str(tmp_path / f"out{processes}")]
        done = subprocess.run(
            [*launch, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["recovery"], "one process speaks for all"
    one, two = (load_file(tmp_path / f"out{processes}" / "model.safetensors") for processes in (1, 2))
    start = load_file(folder / "model.safetensors")
    apart = torch.stack([(one[name] - two[name]).norm() for name in one]).norm()
    moved = torch.stack([(one[name] - start[name]).norm() for name in one]).norm()
    assert apart < 0.05 * moved
    curves = []
    for processes in (1, 2):
        content = json.loads((tmp_path / f"out{processes}" / "gaprune.json").read_text(encoding="utf-8"))
        training = content["recovery"][0]["training"]
        assert training["processes"] == processes
        curves.append([loss for _, loss in training["curve"]])
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    before, after = (zeros_of(matrices(load_model(each, device="cpu"))) for each in (folder, tmp_path / "out2"))
    assert all(torch.equal(before[name], after[name]) for name in before)
