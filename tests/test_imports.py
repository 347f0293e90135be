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


def test_every_public_name_is_there():
    assert set(gaprune.__all__) <= set(dir(gaprune))
    for name in gaprune.__all__:
        assert getattr(gaprune, name).__module__.startswith("gaprune."), name


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'prume'"):
        gaprune.prume  # noqa: B018 (the access is the test)
