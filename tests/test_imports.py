"""Importing the package and asking for help load no deep-learning library, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gaprune

HEAVY = {"torch", "transformers", "sentence_transformers", "sklearn", "scipy", "datasets"}


@pytest.mark.parametrize(
    "code",
    [
        "import gaprune",
        "import gaprune, gaprune.errors, gaprune.config.recipe; gaprune.Recipe, gaprune.GapruneError, dir(gaprune)",
        "import sys; sys.argv = ['gaprune', '--help']; from gaprune.cli.app import main; main()",
        "import sys; sys.argv = ['gaprune', 'prune', '--help']; from gaprune.cli.app import main; main()",
        "import sys; sys.argv = ['gaprune', 'options']; from gaprune.cli.app import main; main()",
        "import sys; sys.argv = ['gaprune', '--version']; from gaprune.cli.app import main; main()",
    ],
)
def test_nothing_heavy_is_imported(code):
    told = f"import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stderr.split()) == set()


@pytest.mark.parametrize(
    "words",
    [
        "shrink no/such/folder --domain data.jsonl --speedup 2 --out o",
        "shrink demo --domain data.jsonl --speedup 2 --out o --set columns.query=frage",
        "prune demo --domain missing.jsonl --width 0.5 --out o",
        "prune demo --domain data.jsonl --set width=0.5 --set sparsty=0.5 --out o",
        "recover demo --texts missing --out o",
        "recover demo --domain data.jsonl --parent ./missing --out o",
        "evaluate demo --tasks tasks --parent ./missing",
        "compare demo --domain data.jsonl --tasks missing --criteria dai",
    ],
)
def test_nothing_heavy_is_imported_before_files_are_missed(words, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"query": "a", "positive": "b"}\n', encoding="utf-8")
    told = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules))); sys.argv[:1] = ['gaprune']\n"
    code = f"{told}from gaprune.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert HEAVY & set(done.stdout.split()) == set()


def test_every_public_name_is_there():
    assert set(gaprune.__all__) <= set(dir(gaprune))
    for name in gaprune.__all__:
        assert getattr(gaprune, name).__module__.startswith("gaprune."), name


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'prume'"):
        gaprune.prume  # noqa: B018 (the access is the test)
