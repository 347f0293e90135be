"""The examples run from first line to last on a tiny model; their committed outputs are those of the genuine one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = {"triplets": 8, "reconstruction_triplets": 4, "batch_size": 8, "round_to": 4}
OPTIONS = {
    "support_tickets": {
        "parameters": 20_000, "minutes": 3.0, "prune": FEW,
        "recover": {"tokens": 500, "steps": 2, "batch_size": 8},
    },
    "chemistry_without_labels": {"tokens": "500", **FEW, "device": "cpu"},
    "keep_the_index": {**FEW, "device": "cpu"},
}  # fmt: skip


def test_every_example_is_tested_and_has_its_output():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == OPTIONS.keys() == {path.stem for path in EXAMPLES.glob("*.txt")}
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.txt"):
        assert path.read_text(encoding="utf-8").strip() in page
        assert f"python examples/{path.stem}.py" in page


@pytest.mark.parametrize("name", OPTIONS)
def test_it_runs(name, folder_of, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(folder_of("bert"), tmp_path, **OPTIONS[name])
    said = capsys.readouterr().out
    committed = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    assert len(said.splitlines()) == len(committed.splitlines())
