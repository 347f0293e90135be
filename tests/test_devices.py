"""Whole prunings on a device that is not the CPU: nothing on the CPU meets what is on it, with the same results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_pruning_on_another_device():
    cases = "bert, zeros", "qwen3, heads and neurons"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("pruned_on_fake_device.py")), *cases],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.rpartition("\n")[2])
    assert tuple(found) == cases
    for case, result in found.items():
        assert result["names"], case
        assert result["on the device"], case
        assert result["difference"] < 1e-4, case
        assert result["zeros"] > 0.999, case


def test_the_fake_device_refuses_to_mix():
    code = "import torch, fake_device as f\nwith f.FakeDevice(): torch.ones(3, device=f.DEVICE) + torch.ones(3)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    assert "has tensors on two devices" in done.stderr
