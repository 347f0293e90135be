"""Importing the package and asking for help load no deep-learning library, and every public name is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import gaprune

HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "datasets"}


PROGRAM = """
import contextlib, json, sys
import gaprune, gaprune.errors, gaprune.config.recipe
gaprune.Recipe, gaprune.GapruneError, dir(gaprune)
found = {"import gaprune": [0, [*sys.modules]]}
from gaprune.cli.app import main
for words in map(str.split, sys.argv[1:]):
    sys.argv = ["gaprune", *words]
    with contextlib.redirect_stdout(sys.stderr):
        print(f"<{' '.join(words)}>")
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    found[" ".join(words)] = [code or 0, [*sys.modules]]
print(json.dumps(found))
"""
"""Runs one command after the other in one process, and tells the exit code and the modules after each."""


def heavy_after(folder, *commands):
    """Return the exit code of each command with the heavy modules that are there after it, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *commands], capture_output=True, text=True, check=True, cwd=folder
    )
    return {
        name: (code, frozenset(HEAVY & {*modules})) for name, (code, modules) in json.loads(done.stdout).items()
    }, done.stderr


def test_nothing_heavy_is_imported(tmp_path):
    found, _ = heavy_after(tmp_path, "--help", "prune --help", "options", "--version")
    assert len(found) == 5
    assert {*found.values()} == {(0, frozenset())}, found


def test_nothing_heavy_is_imported_before_files_are_missed(tmp_path):
    (tmp_path / "data.jsonl").write_text('{"query": "a", "positive": "b"}\n', encoding="utf-8")
    commands = (
        "shrink no/such/folder --domain data.jsonl --speedup 2 --out o",
        "shrink demo --domain data.jsonl --speedup 2 --out o --set columns.query=frage",
        "prune demo --domain missing.jsonl --width 0.5 --out o",
        "prune demo --domain data.jsonl --set width=0.5 --set sparsty=0.5 --out o",
        "recover demo --texts missing --out o",
        "recover demo --domain data.jsonl --parent ./missing --out o",
        "evaluate demo --tasks tasks --parent ./missing",
        "compare demo --domain data.jsonl --tasks missing --criteria dai",
    )
    found, said = heavy_after(tmp_path, *commands)
    del found["import gaprune"]
    assert {*found.values()} == {(2, frozenset())}, found
    for words in commands:
        assert f"<{words}>\nerror: " in said


def test_every_public_name_is_there():
    assert set(gaprune.__all__) <= set(dir(gaprune))
    for name in gaprune.__all__:
        assert getattr(gaprune, name).__module__.startswith("gaprune."), name


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'prume'"):
        gaprune.prume  # noqa: B018 (the access is the test)
