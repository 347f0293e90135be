"""Recovery after structured pruning, in one run with pruning, and in rounds with reconstruction."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.export.provenance import Provenance
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.units import unit_groups
from gaprune.pipelines.recovery_plan import RecoveryPlan
from gaprune.recovery.masked_training import zero_masks

QUICK = {"batch_size": 6, "evaluate_every": 2}
CUT = {"width": 0.5, "round_to": 8, "device": "cpu"}


def shapes(model):
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.fixture
def narrow(folder_of, many, tmp_path):
    """A folder of a model that lost half of its neurons."""
    gaprune.prune(folder_of("bert"), domain=many, out=tmp_path / "narrow", **CUT)
    return tmp_path / "narrow"


def test_after_width(narrow, many, tmp_path):
    out = tmp_path / "out"
    result = gaprune.recover(narrow, domain=many, steps=4, out=out, device="cpu", distil=True, **QUICK)
    training = result.training
    assert (training.masked_weights, training.learning_rate) == (0, 1e-4)
    assert training.before["loss"] > 0
    assert training.after["loss"] == pytest.approx(min(loss for _, loss in training.curve[1:]), abs=1e-4)
    opened = SentenceTransformer(str(out), device="cpu")
    before = load_model(narrow, device="cpu")
    assert shapes(opened) == shapes(before)
    assert weights_fingerprint(opened) == weights_fingerprint(result.model) != weights_fingerprint(before)
    said, was = Provenance.read(out), Provenance.read(narrow)
    assert said.method == was.method
    assert said.sparsity == was.sparsity
    assert said.recoveries[0].teacher.weights_sha256 == was.parent.weights_sha256
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| removed FFN neurons per layer | 24 of 48 |" in card
    assert f"| held-out loss | {training.before['loss']:.4f} before, {training.after['loss']:.4f} after |" in card
    assert "neither smaller nor faster" not in card


def test_width_and_recovery_in_one_go_are_the_two_after_each_other(narrow, folder_of, many, tmp_path):
    out = tmp_path / "out"
    result = gaprune.prune(folder_of("bert"), domain=many, recover=4, recovery=QUICK, out=out, **CUT)
    two = gaprune.recover(narrow, domain=many, steps=4, device="cpu", **QUICK)
    assert weights_fingerprint(result.model) == weights_fingerprint(two.model)
    assert {group.units for group in unit_groups(result.model, "width")} == {24}
    said, was = Provenance.read(out), Provenance.read(narrow)
    assert said.method == was.method
    assert said.method.reconstruction.held_out == 8
    (recovery,) = said.recoveries
    assert recovery.round is None
    assert recovery.training.curve == two.training.curve
    assert recovery.training.masked_weights == 0
    assert "## Recovery\n" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["bert", "qwen3"], indirect=True)
@pytest.mark.parametrize("criterion", ["dai:general_share=0", "sparsegpt"])
def test_by_turns_with_repair(model, many, tmp_path, monkeypatch, criterion):
    turns = []
    recover = RecoveryPlan.recover

    def spy(self, trained, turn, **given):
        before = zero_masks(linear_layers(trained))
        record = recover(self, trained, turn, **given)
        turns.append((turn.sparsity, before, zero_masks(linear_layers(trained))))
        return record

    monkeypatch.setattr(RecoveryPlan, "recover", spy)
    options = {"held_out": 0, "learning_rate": 1e-2, **QUICK}
    before = weights_fingerprint(model)
    result = gaprune.prune(
        model, domain=many, criterion=criterion, sparsity=0.6, recover=5, rounds=2, recovery=options,
        out=tmp_path / "out",
    )  # fmt: skip
    assert weights_fingerprint(model) == before
    (_, first, early), (_, last, late) = turns
    assert [sparsity for sparsity, *_ in turns] == pytest.approx([0.525, 0.6])
    for name, zeros in last.items():
        assert torch.equal(early[name], first[name])
        assert torch.equal(late[name], zeros)
        assert (zeros | ~first[name]).all()
    size = sum(zeros.numel() for zeros in last.values())
    assert sum(int(zeros.sum()) for zeros in late.values()) == result.removed == round(0.6 * size)
    opened = zero_masks(linear_layers(SentenceTransformer(str(tmp_path / "out"), device="cpu")))
    assert opened.keys() == late.keys()
    assert all(torch.equal(opened[name], late[name]) for name in late)
    said = Provenance.read(tmp_path / "out")
    reconstructs = [recovery.round.reconstruction for recovery in said.recoveries]
    assert said.method.reconstruction == reconstructs[-1]
    assert [reconstruct and reconstruct.held_out for reconstruct in reconstructs] == [
        None if criterion == "sparsegpt" else 8
    ] * 2
    assert [recovery.training.steps for recovery in said.recoveries] == [2, 3]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| pruned before it | 52.50 % of the selected weights; reconstruction: " in card
    assert "## Recovery 2\n" in card


def test_zeros_of_every_run_before_are_held(folder_of, many, tmp_path):
    """Attention, then the MLP, then neurons cut out: what the last run says of itself is not all that is zero."""
    twice = {"criterion": "magnitude", "device": "cpu"}
    gaprune.prune(folder_of("bert"), targets="attention", out=tmp_path / "one", **twice)
    once = gaprune.prune(tmp_path / "one", domain=many, targets="mlp", recover=3, recovery=QUICK, **twice)
    again = gaprune.prune(tmp_path / "one", targets="mlp", out=tmp_path / "two", **twice)
    narrow = gaprune.prune(
        tmp_path / "two",
        domain=many,
        reconstruct=False,
        out=tmp_path / "three",
        recover=3,
        recovery=QUICK,
        **CUT,
    )
    zeros = zero_masks(linear_layers(again.model))
    attention = zero_masks(linear_layers(load_model(tmp_path / "one", device="cpu")))
    assert attention
    for recovered, wanted in (
        (once.model, zeros),
        (gaprune.recover(tmp_path / "two", domain=many, steps=3, device="cpu", **QUICK).model, zeros),
        (narrow.model, attention),
        (gaprune.recover(tmp_path / "three", domain=many, steps=3, device="cpu", **QUICK).model, attention),
    ):
        found = zero_masks(linear_layers(recovered))
        assert all(torch.equal(found[name], each) for name, each in wanted.items())


def test_by_turns_with_a_teacher(bert, many, tmp_path):
    """The parent embeds the texts of every round before the first."""
    options = {"distil": True, "held_out": 0, "teacher_cache": str(tmp_path / "cache"), **QUICK}
    result = gaprune.prune(
        bert, domain=many, criterion="magnitude", sparsity=0.6, reconstruct=False, recover=4, rounds=2,
        recovery=options,
    )  # fmt: skip
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert [each.teacher.weights_sha256 for each in result.recoveries] == [weights_fingerprint(bert)] * 2
