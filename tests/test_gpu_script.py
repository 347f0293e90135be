"""benchmarks/gpu.py, on the CPU with a tiny model: what a GPU would run is run, and says what it should."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the script with arguments; gives its exit code and what it printed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def runs(*arguments):
        import gpu

        argv = ["gpu.py", "--device", "cpu", "--triplets", "12", "--out", str(tmp_path / "gpu.jsonl"), *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        code = gpu.main()
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return runs


def test_on_the_cpu(run, tmp_path):
    code, (compared, zeros, neurons) = run("--sizes", "tiny", "--equal", "layers")
    assert code == 0
    assert compared["same"]
    assert compared["difference"] == 0, "the same device twice"
    for line in (zeros, neurons):
        assert line["parameters"] > 500_000
        assert line["peak GiB"] > 0
        assert {"measure", "reconstruct", "all"} <= line["stages"].keys()
    kept = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["card"] for line in kept] == ["cpu"] * 3


def test_what_no_longer_fits_is_said(run):
    code, lines = run("--sizes", "tiny", "4B", "--equal", "--minutes", "0")
    assert code == 0
    assert lines == [{"size": name, "skipped": "0 minutes are over"} for name in ("tiny", "4B")]
