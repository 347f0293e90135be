"""Errors say what is wrong, where, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaprune import errors
from gaprune.errors import ConfigError, DataError, GapruneError, MissingExtraError, suggest

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GapruneError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_one_family_with_one_exit_code(kind):
    assert issubclass(kind, GapruneError)
    assert kind.exit_code == 2
    assert kind.__doc__


def test_problem_and_remedy():
    error = ConfigError("seed: 'x' is no number.", "Give a number.")
    assert (error.problem, error.remedy) == ("seed: 'x' is no number.", "Give a number.")
    assert str(error) == "seed: 'x' is no number.\nGive a number."


@pytest.mark.parametrize(
    ("source", "line", "start"),
    [
        (None, None, "has no text."),
        ("a.jsonl", None, "a.jsonl: has no text."),
        ("a.jsonl", 3, "a.jsonl:3: has no text."),
        (Path("b") / "a.csv", 12, "b/a.csv:12: has no text."),
        (None, 3, "has no text."),
    ],
)
def test_data_errors_start_with_their_place(source, line, start):
    error = DataError("has no text.", "Fill it.", source=source, line=line)
    assert error.problem == start
    assert (error.source, error.line) == (source, line)


def test_a_missing_extra_says_what_to_install():
    error = MissingExtraError("mteb's benchmarks", "mteb")
    assert error.extra == "mteb"
    assert error.problem.startswith("mteb's benchmarks needs the optional dependencies of the extra 'mteb'")
    assert error.remedy == "Install them with: pip install 'gaprune[mteb]' (in a clone: '.[mteb]')"


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("sparsty", ["sparsity", "seed"], " Did you mean 'sparsity'?"),
        ("wand", ["wanda", "wandb"], " Did you mean 'wandb' or 'wanda'?"),
        ("xyz", ["sparsity"], ""),
        ("mlp", [], ""),
        ("quer", (name for name in ["query"]), " Did you mean 'query'?"),
    ],
)
def test_near_names(word, known, said):
    found = suggest(word, known)
    assert sorted(found.split("'")) == sorted(said.split("'"))
