"""Whole prunings on a device that is not the CPU: nothing on the CPU meets what is on it, with the same results."""

from __future__ import annotations

import json

from launched import server

CASES = "bert, zeros", "qwen3, heads and neurons"


def test_pruning_on_another_device(tmp_path):
    """In a process of its own, because torch knows the fake device until the process ends."""
    process = server().Process(target=_on_the_device, args=(tmp_path / "found.json",))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert "has tensors on two devices" in found.pop("mixed")
    assert tuple(found) == CASES
    for case, result in found.items():
        assert result["names"], case
        assert result["on the device"], case
        assert result["difference"] < 1e-4, case
        assert result["zeros"] > 0.999, case


def _on_the_device(path):
    import torch

    from fake_device import DEVICE, FakeDevice
    from pruned_on_fake_device import compared

    torch.set_num_threads(1)
    found = {"mixed": ""}
    try:
        with FakeDevice():
            torch.ones(3, device=DEVICE) + torch.ones(3)
    except RuntimeError as error:
        found["mixed"] = str(error)
    path.write_text(json.dumps(found | compared(CASES)), encoding="utf-8")
