"""Recovery by the commands, as part of pruning or after it: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest

QUICK = ("--batch-size", 2, "--set", "held_out=0.3", "--set", "evaluate_every=1", "--set", "device=cpu")


@pytest.mark.parametrize(
    ("how", "held", "made"),
    [
        (
            ("--criterion", "magnitude"),
            "; 3,072 weights were kept at zero",
            "50.00 % of the selected weights are zero",
        ),
        (("--width", 0.5, "--set", "round_to=8"), "", "24 of 48 FFN neurons per layer"),
    ],
)
def test_prune_recover_inspect(gaprune, files, empty, how, held, made):
    trained = ("--set", "recovery.batch_size=2", "--set", "recovery.held_out=0.3")
    done = gaprune(
        "prune", files.model, *how, *files.data, "--recover", 2, *trained, "--out", empty / "pruned", "--reconstruct"
    )
    assert done.code == 0, done.err
    assert f"Recovery: 2 steps of fine-tuning, learning rate at most 0.0001{held}." in done.out
    assert "Held-out loss: " in done.out
    assert "negatives of the triplets were not used" in done.out
    assert "Reconstruction was " in done.out
    assert "has no effect" not in done.err
    again = gaprune(
        "recover",
        empty / "pruned",
        "--domain",
        files.domain,
        "--steps",
        1,
        *QUICK,
        "--set",
        "hard_negatives=1",
        "--out",
        empty / "again",
    )
    assert again.code == 0, again.err
    assert f"Recovery: 1 steps of fine-tuning, learning rate at most 0.0001{held}." in again.out
    assert "were not used" not in again.out
    seen = gaprune("inspect", empty / "again")
    assert seen.code == 0, seen.err
    assert made in seen.out
    assert seen.out.count("steps of fine-tuning") == 2
    assert "gaprune.json says" not in seen.out
    said = json.loads((empty / "again" / "gaprune.json").read_text(encoding="utf-8"))
    assert [each["training"]["steps"] for each in said["recoveries"]] == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("recover", "--steps", 2), "out: the result would be lost."),
        (("recover", "--stepss", 2), "No such option"),
        (("prune", "--recover", 2, "--set", "scores=s.safetensors"), "out: the result would be lost."),
        (
            ("prune", "--no-reconstruct", "--set", "rounds=2", "--width", 0.5, "--out", "o"),
            "rounds: each round measures",
        ),
        (("prune", "--recover", 4, "--set", "recovery.stepss=2", "--out", "o"), "Unknown option 'stepss'"),
    ],
)
def test_refused_before_anything(gaprune, files, empty, monkeypatch, arguments, problem):
    monkeypatch.chdir(empty)
    command, *rest = arguments
    done = gaprune(command, files.model, "--domain", files.domain, *rest)
    assert done.code == 2
    assert problem in done.err
    assert not list(empty.iterdir())
