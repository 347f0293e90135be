"""The sentences about a result."""

from __future__ import annotations

import pytest

import provenances
from gaprune.evaluation.cost.footprint import footprint
from gaprune.export.records import Recovery
from gaprune.pruning.search import TargetChoice
from gaprune.report.sentences import origin_lines, outcome_lines, recovery_lines, summary, target_text


@pytest.mark.parametrize(("after", "noted"), [(0.4, False), (0.5, True), (0.6, True)])
def test_a_held_out_loss_that_did_not_fall_is_noted(after, noted):
    content = provenances.recovery()
    content["training"]["after"] = {"loss": after}
    lines = recovery_lines(Recovery.model_validate(content))
    assert any("did not fall" in line for line in lines) is noted


def test_negatives_that_were_not_used_are_noted():
    content = provenances.recovery()
    content["data"]["negatives_left_out"] = True
    assert any("hard_negatives" in line for line in recovery_lines(Recovery.model_validate(content)))
    assert not any(
        "hard_negatives" in line for line in recovery_lines(Recovery.model_validate(provenances.recovery()))
    )


def test_both_sparsities():
    assert "50.00 % of the 2,000 selected weights" in summary(provenances.unstructured())
    assert "23.46 % of all 4,263 parameters" in summary(provenances.unstructured())
    said = summary(provenances.structured())
    assert said.startswith("2 of 6 layers, 512 of 1,536 FFN neurons per layer removed")
    assert "3,000 parameters remain" in said


@pytest.mark.parametrize(("kept", "outcome"), [(True, "kept"), (False, "rolled back")])
def test_a_run_in_order(kept, outcome):
    method = provenances.structured().method.model_dump() | {"reconstruction": provenances.reconstruction(kept=kept)}
    first, second, third, *_ = outcome_lines(
        provenances.structured(method=method, recoveries=[provenances.recovery()])
    )
    assert first.startswith("dai: 2 of 6 layers")
    assert second.startswith(f"Reconstruction was {outcome}")
    assert third.startswith("Recovery: 90 steps")


def test_a_reconstruction_that_could_not_be_judged_says_why():
    given = provenances.reconstruction(kept=False) | {
        "degradation_reconstructed": {},
        "problem": "down: the least-squares problem of the reconstruction is singular.",
    }
    method = provenances.structured().method.model_dump() | {"reconstruction": given}
    line = outcome_lines(provenances.structured(method=method))[1]
    assert "rolled back: down: the least-squares problem of the reconstruction is singular; " in line
    assert "with reconstruction" not in line


@pytest.mark.parametrize(
    ("kind", "limit", "said"),
    [
        ("parameters", 12e6, "at most 12,000,000 parameters"),
        ("size", 25e6, "at most 25,000,000 bytes"),
        ("speedup", 2.5, "a speedup of at least 2.5"),
    ],
)
def test_targets(kind, limit, said):
    shape = {"layers": 2, "width": 40, "hidden": 32, "tokens": 9}
    mix = {**shape, "parameters": 3000, "speedup": 2.625, "estimated_degradation": 0.1}
    target = TargetChoice.model_validate(
        {
            "kind": kind,
            "limit": limit,
            "asked": 0.5,
            "parent": {"layers": 3, "width": 48, "hidden": 32, "tokens": 10},
            "measured": False,
            "chosen": mix,
            "candidates": [mix, mix],
        }
    )
    text = target_text(target)
    assert text.startswith("Best of 2 configurations")
    assert said in text
    assert "2 of 3 layers, 40 of 48 FFN neurons per layer, 9 of 10 tokens are kept" in text


def test_the_origin_of_a_model_without_the_layers_of_its_provenance(bert):
    (line,) = origin_lines(footprint(bert), provenances.unstructured())
    assert "does not have the layers" in line


def test_the_origin_of_a_smaller_model_that_has_changed(bert):
    made, changed = origin_lines(footprint(bert), provenances.structured())
    assert "Pruned from org/small-model by dai: 2 of 6 layers" in made
    assert "3,000 parameters: the model has changed" in changed
