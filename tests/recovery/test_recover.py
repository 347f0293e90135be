"""The verb: from folder to folder, checked before it trains, going on where it was ended."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.errors import ConfigError, DataError, MissingExtraError, ModelError, OutputError
from gaprune.export.provenance import Provenance
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.recovery.masked_training import zero_masks
from gaprune.recovery.trainer import RecoveryTrainer
from toys import GENERAL, tasks_folder

QUICK = {"batch_size": 6, "evaluate_every": 2, "learning_rate": 1e-3, "device": "cpu"}


WILD = {**QUICK, "learning_rate": 0.5, "evaluate_every": 1}
"""Too high a rate to get better for long."""


@pytest.fixture
def folder(folder_of, tmp_path):
    """A folder that GAPrune wrote."""
    out = tmp_path / "pruned"
    gaprune.prune(folder_of("bert"), criterion="magnitude", targets="all", out=out, device="cpu")
    return out


def test_from_folder_to_folder(folder, folder_of, many, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = Provenance.read(folder)
    tasks = tasks_folder(tmp_path / "tasks")
    out = tmp_path / "out"
    result = gaprune.recover(
        folder, domain=many, general=GENERAL, steps=4, distil=True, tasks=tasks, out=out, general_share=0.2, **QUICK
    )
    opened = SentenceTransformer(str(out), device="cpu")
    assert weights_fingerprint(opened) == weights_fingerprint(result.model)
    assert weights_fingerprint(load_model(folder, device="cpu")) != weights_fingerprint(opened)
    old, new = zero_masks(linear_layers(load_model(folder, device="cpu"))), zero_masks(linear_layers(opened))
    assert all(torch.equal(old[name], new[name]) for name in old)
    provenance = Provenance.read(out)
    assert provenance.model_copy(update={"recoveries": (), "evaluation": None, "leaks": ()}) == before
    assert [leak.partition(" data")[0] for leak in provenance.leaks] == ["general", "general"]
    (recovery,) = provenance.recoveries
    assert recovery.training.steps == 4
    assert [step for step, _ in recovery.training.curve] == [0, 2, 4]
    assert recovery.teacher.weights_sha256 == before.parent.weights_sha256
    assert recovery.data.domain.triplets + recovery.data.held_out.triplets <= len(many)
    assert {score.parent is None for score in result.evaluation.scores} == {False}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "## Recovery" in card
    assert "20% of them general" in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out", "pruned", "tasks"]
    again = gaprune.recover(out, domain=many, steps=2, held_out=0, **QUICK)
    assert len(again.provenance().recoveries) == 2


def test_a_loaded_model_is_left_alone(bert, many):
    before = weights_fingerprint(bert)
    result = gaprune.recover(bert, domain=many, steps=2, held_out=0, batch_size=6)
    assert weights_fingerprint(bert) == before != weights_fingerprint(result.model)
    assert result.provenance().method.criterion is None


@pytest.mark.parametrize(
    ("killed", "given"),
    [(3, {}), (5, {}), (6, {}), (5, {"lora": 2, "hard_negatives": 1}), (3, {"distil": True, "held_out": 0})],
    ids=str,
)
def test_killed_and_resumed(folder, many, tmp_path, monkeypatch, killed, given):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = {"domain": many, "steps": 6, **QUICK, **given}
    whole = gaprune.recover(folder, out=tmp_path / "whole", **asked)
    step = RecoveryTrainer.training_step

    def kill(self, *args, **options):
        if self.state.global_step + 1 == killed:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, "training_step", kill)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        gaprune.recover(folder, out=out, **asked)
    assert not out.exists()
    points = tmp_path / "out.checkpoints" / "triplets"
    (points / "checkpoint-5").mkdir()  # one that was not finished
    monkeypatch.setattr(RecoveryTrainer, "training_step", step)
    with pytest.raises(OutputError, match="holds checkpoints of a run that did not finish"):
        gaprune.recover(folder, out=out, **asked)
    with pytest.raises(ConfigError, match="different options"):
        gaprune.recover(folder, out=out, resume=True, **{**asked, "learning_rate": 2e-4})
    if "distil" in given:
        with pytest.raises(ConfigError, match="different parent"):
            gaprune.recover(folder, out=out, resume=True, parent=folder, **asked)
    resumed = gaprune.recover(folder, out=out, resume=True, **asked)
    assert weights_fingerprint(resumed.model) == weights_fingerprint(whole.model)
    assert resumed.training.curve == whole.training.curve
    assert not points.exists()


def test_the_best_step_is_kept_and_patience_ends(folder, many, monkeypatch, capsys):
    weights = {}
    save = RecoveryTrainer.save_model

    def spy(self, *args, **options):
        weights[self.state.global_step] = weights_fingerprint(self.model)
        save(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, "save_model", spy)
    result = gaprune.recover(folder, domain=many, steps=8, patience=2, **WILD)
    losses = dict(result.training.curve[1:])
    assert result.training.steps == result.training.best_step + 2 < 8
    assert "of 8 steps: 2 held-out losses brought no improvement" in capsys.readouterr().err
    assert result.training.after["loss"] == losses[result.training.best_step] == min(losses.values())
    assert weights_fingerprint(result.model) == weights[result.training.best_step]


@pytest.mark.parametrize("late", [0, 1])
def test_patience_counts_on_where_a_run_was_killed(folder, many, tmp_path, monkeypatch, late):
    """Killed at the step before the last or, after it was decided to stop, at the end."""
    asked = {"domain": many, "steps": 8, "patience": 2, **WILD}
    whole = gaprune.recover(folder, out=tmp_path / "whole", **asked)
    names = ("training_step", "read_weights")
    step, load = (getattr(RecoveryTrainer, name) for name in names)

    def kill(self, *args, **options):
        if late or self.state.global_step + 1 == whole.training.steps:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, names[late], kill)
    with pytest.raises(KeyboardInterrupt):
        gaprune.recover(folder, out=tmp_path / "out", **asked)
    monkeypatch.setattr(RecoveryTrainer, names[late], (step, load)[late])
    resumed = gaprune.recover(folder, out=tmp_path / "out", resume=True, **asked)
    assert resumed.training.curve == whole.training.curve
    assert resumed.training.steps == whole.training.steps
    assert weights_fingerprint(resumed.model) == weights_fingerprint(whole.model)


class TestRefused:
    @pytest.fixture(autouse=True)
    def _never_trained(self, monkeypatch):
        monkeypatch.setattr(
            sys.modules["gaprune.recovery.recover_model"],
            "training_arguments",
            lambda *_args, **_options: pytest.fail("trained"),
        )

    @pytest.mark.parametrize(
        ("given", "error", "problem"),
        [
            ({"domain": None}, ConfigError, "^domain: recovery is trained on triplets"),
            ({"batch_size": 64}, ConfigError, "^batch_size: many holds 36 triplets"),
            ({"held_out": 0.01}, ConfigError, "^held_out: 0.01 of the 40"),
            ({"hard_negatives": 2}, DataError, "^many:1: has 1 of the 2 negatives"),
            ({"resume": True}, ConfigError, "^resume: .* holds no checkpoints"),
            ({"targets": "mlpp"}, gaprune.GapruneError, "^targets: 'mlpp' matches none"),
            ({"distil": True, "parent": "/no/where"}, ModelError, "^The model /no/where cannot be loaded"),
        ],
        ids=str,
    )
    def test_before_it_trains(self, folder, many, tmp_path, given, error, problem):
        asked = {"domain": many, "out": tmp_path / "out", **QUICK, **given}
        with pytest.raises(error, match=problem):
            gaprune.recover(folder, **asked)
        assert [path.name for path in tmp_path.iterdir()] == ["pruned"]

    def test_a_parent_that_changed(self, folder, many, tmp_path):
        path = folder / "gaprune.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["parent"]["weights_sha256"] = "0" * 64
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ModelError, match="has other weights"):
            gaprune.recover(folder, domain=many, distil=True, **QUICK)

    def test_lora_without_peft(self, folder, many, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(MissingExtraError, match="'lora'"):
            gaprune.recover(folder, domain=many, lora=2, **QUICK)

    def test_an_output_that_exists(self, folder, many):
        with pytest.raises(OutputError, match="exists"):
            gaprune.recover(folder, domain=many, out=folder, **QUICK)


@pytest.mark.parametrize("criterion", ["magnitude", "dai", "sparsegpt"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_pruned_and_recovered_in_one_go(bert, many, criterion, rounds, tmp_path):
    result = gaprune.prune(
        bert, domain=many, criterion=criterion, sparsity=0.6, recover=4, rounds=rounds, out=tmp_path / "out",
        recovery={"batch_size": 6, "learning_rate": 1e-3, "held_out": 0},
    )  # fmt: skip
    assert result.change.zeros == round(0.6 * result.change.size)
    assert result.sparsity_of_selected == result.change.zeros / result.change.size
    recoveries = Provenance.read(tmp_path / "out").recoveries
    assert [each.training.steps for each in recoveries] == ([4] if rounds == 1 else [1, 2, 1])
    assert recoveries[-1].training.masked_weights == result.change.zeros


def test_options_of_pruning_with_recovery(bert, many):
    for given, problem in (
        ({"rounds": 2}, "recover: without steps"),
        ({"recover": 2, "rounds": 3}, "rounds: 2 steps are too few"),
        ({"recover": 2, "recovery": {"out": "x"}}, "recovery: out is not an option here"),
        ({"recover": 4, "rounds": 2, "granularity": "2:4"}, "rounds: granularity 2:4"),
        ({"rounds": 2, "width": 0.5, "round_to": 8, "reconstruct": False}, "rounds: .* nothing is reconstructed"),
        ({"recover": 4, "rounds": 2, "depth": 1, "reconstruct": False}, "rounds: .* nothing is reconstructed"),
    ):
        with pytest.raises(ConfigError, match=problem):
            gaprune.prune(bert, domain=many, criterion="magnitude", **given)
