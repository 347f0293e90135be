"""Recovery by the commands, on either road: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest

from gaprune.cli.output import recovery_lines

QUICK = ("--batch-size", 2, "--held-out", 0.3, "--evaluate-every", 1, "--device", "cpu")


@pytest.mark.parametrize(
    ("how", "held", "made"),
    [
        (("--criterion", "magnitude"), "3,072 weights were kept at zero", "50.00 % of what was selected is zero now"),
        (("--width", 0.5, "--round-to", 8), "there were no zeros to keep", "width 24 of 48"),
    ],
)
def test_prune_recover_inspect(gaprune, files, empty, how, held, made):
    trained = ("--recover-option", "batch_size=2", "--recover-option", "held_out=0.3")
    done = gaprune(
        "prune", files.model, *how, *files.data, "--recover", 2, *trained, "--out", empty / "pruned", "--reconstruct"
    )
    assert done.code == 0, done.err
    assert f"Retrained for 2 steps, learning rate at most 0.0001; {held}." in done.out
    assert "Held-out loss " in done.out
    assert "Negatives that triplets came with were not trained on" in done.out
    assert "Repair was " in done.out
    assert "is not used" not in done.err
    again = gaprune(
        "recover",
        empty / "pruned",
        "--domain",
        files.domain,
        "--steps",
        1,
        *QUICK,
        "--hard-negatives",
        1,
        "--out",
        empty / "again",
    )
    assert again.code == 0, again.err
    assert f"Retrained for 1 steps, learning rate at most 0.0001; {held}." in again.out
    assert "Negatives that triplets came with" not in again.out
    seen = gaprune("inspect", empty / "again")
    assert seen.code == 0, seen.err
    assert made in seen.out
    assert seen.out.count("Retrained for ") == 2
    assert "gaprune.json says" not in seen.out
    said = json.loads((empty / "again" / "gaprune.json").read_text(encoding="utf-8"))
    assert [each["training"]["steps"] for each in said["recovery"]] == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("recover", "--steps", 2), "out: the result would be lost."),
        (("recover", "--stepss", 2), "No such option"),
        (("prune", "--recover", 2, "--scores", "s.safetensors"), "out: the result would be lost."),
        (("prune", "--recover", 4, "--rounds", 2, "--width", 0.5, "--out", "o"), "rounds: whole units go at once"),
        (("prune", "--recover", 4, "--recover-option", "stepss=2", "--out", "o"), "Unknown option 'stepss'"),
    ],
)
def test_refused_before_anything(gaprune, files, empty, monkeypatch, arguments, problem):
    monkeypatch.chdir(empty)
    command, *rest = arguments
    done = gaprune(command, files.model, "--domain", files.domain, *rest)
    assert done.code == 2
    assert problem in done.err
    assert not list(empty.iterdir())


@pytest.mark.parametrize(("after", "noted"), [(0.4, False), (0.5, True), (0.6, True)])
def test_a_held_out_loss_that_did_not_fall_is_noted(after, noted):
    losses = {"before": {"loss": 0.5}, "after": {"loss": after}, "best_step": 2}
    training = {"steps": 4, "learning_rate": 1e-4, "held": 0, **losses}
    lines = recovery_lines({"training": training, "data": {"negatives_left_out": False}})
    assert any(line.startswith("Note: it did not fall") for line in lines) is noted
