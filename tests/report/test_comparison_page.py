"""The page about a comparison: the best criterion, the table, curves, and how to make it again."""

from __future__ import annotations

import pytest
from test_page import HOSTILE, Parsed

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.errors import ModelError
from gaprune.evaluation.comparison import COMPARISON_FILE, Cell, Comparison, Lead, Other
from gaprune.evaluation.cost.latency import Speed
from gaprune.evaluation.quality.bootstrap import Difference
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.evaluation.variants import Variant, Variants
from gaprune.report.comparison import comparison_page
from gaprune.util.files import write_json
from provenances import data


def scored(value: float) -> Evaluation:
    score = Score(task="T", domain="finance", kind="retrieval", metric="nDCG@10", value=value, seconds=1.0, parent=0.8)
    return Evaluation((score,))


def compared() -> Comparison:
    """Two criteria at two sparsities with two samples."""
    values = {
        ("dai", 0.5): (0.7, 0.72),
        ("wanda", 0.5): (0.6, 0.61),
        ("dai", 0.7): (0.5, 0.5),
        ("wanda", 0.7): (0.55, 0.51),
    }
    cells = [
        Cell(criterion=name, sparsity=sparsity, seed=seed, evaluation=scored(value), triplets=64)
        for (name, sparsity), found in values.items()
        for seed, value in enumerate(found)
    ]
    recipe = Recipe.build({"domain": "mine.jsonl", "targets": ["all"], "sparsity": [0.5, 0.7]}).model_dump(mode="json")
    settings = recipe | {
        "parent": {"name": HOSTILE, "weights_sha256": "ab" * 32},
        "triplets": [64],
        "calibration": [{"seed": 0, "domain": data("mine.jsonl", 64), "general": None}],
        "versions": {"gaprune": "0.1.0"},
    }
    variants = Variants(by_name={name: Variant(base=name) for name in ("dai", "wanda")})
    return Comparison(settings=settings, dense=scored(0.8), cells=cells, variants=variants)


@pytest.fixture
def comparison() -> Comparison:
    return compared()


def test_the_page_is_whole_and_loads_nothing(comparison):
    page = comparison_page(comparison)
    found = Parsed(page)
    assert found.sections == ["answer", "quality", "curves", "data", "provenance", "recipe"]
    assert found.loads == []
    assert "<script" not in page
    assert len(found.ids) == len(set(found.ids))
    assert comparison_page(comparison) == page


def test_it_is_made_again_from_the_folder(comparison, tmp_path):
    write_json(tmp_path / COMPARISON_FILE, comparison.as_dict())
    assert gaprune.write_report(tmp_path).read_text(encoding="utf-8") == comparison_page(comparison)


@pytest.mark.parametrize("change", [{"schema": 1}, {"cells": 1}, {"dense": {}}])
def test_records_that_gaprune_did_not_write_are_refused(comparison, tmp_path, change):
    write_json(tmp_path / COMPARISON_FILE, comparison.as_dict() | change)
    with pytest.raises(ModelError, match=rf"comparison\.json .*{next(iter(change))}"):
        gaprune.write_report(tmp_path)


def test_a_lead_is_said_with_its_interval_and_one_that_can_be_chance_is_level(comparison):
    differences = {0.5: Difference(value=0.1, low=0.02, high=0.2), 0.7: Difference(value=0.03, low=-0.01, high=0.07)}
    names = {0.5: {"best": "dai", "following": "wanda"}, 0.7: {"best": "wanda", "following": "dai"}}
    leads = tuple(
        Lead(sparsity=sparsity, domain="finance", difference=found, **names[sparsity])
        for sparsity, found in differences.items()
    )
    text = Parsed(comparison_page(comparison.model_copy(update={"leads": leads}))).text
    assert "dai is best with 0.7100, ahead of wanda by +10.0 [+2.0, +20.0] points" in text
    assert "wanda (0.5300) and dai are level, +3.0 [-1.0, +7.0] points" in text


def test_the_best_criterion_of_each_sparsity_is_named(comparison):
    text = Parsed(comparison_page(comparison)).text
    assert "At a sparsity of 0.5, in finance dai is best with 0.7100" in text
    assert "At a sparsity of 0.7, in finance wanda is best with 0.5300" in text
    assert "0.7100 ± 0.0141 (-11.3%)" in text


def test_the_recipe_has_what_was_chosen_alone(comparison):
    found = Parsed(comparison_page(comparison))
    assert Recipe.build({"domain": "mine.jsonl", "targets": ["all"], "sparsity": [0.5, 0.7]}).targets == ("all",)
    (code,) = found.code
    assert {line.partition(":")[0] for line in code.splitlines() if line[0].isalpha()} == {
        "domain",
        "sparsity",
        "targets",
    }
    assert "--criteria dai,wanda --triplets 64 --seeds 2 --tasks" in code


def test_models_beside_one_are_named_with_speed_and_interval(comparison):
    """Nothing was pruned: every other model has a sentence, and the command names it."""
    speed = Speed(latency=1.5, throughput=2.0, milliseconds=(6.0, 4.0), texts_per_second=(10.0, 20.0))
    differences = {"finance": Difference(value=-0.02, low=-0.03, high=-0.01)}
    other = Other(name=HOSTILE, evaluation=scored(0.78), speed=speed, differences=differences)
    settings = {"model": "mine", "against": [HOSTILE]}
    found = Parsed(comparison_page(Comparison(settings=settings, dense=scored(0.8), others=(other,))))
    assert found.sections == ["answer", "quality", "provenance", "recipe"]
    assert f"{HOSTILE} is 1.5 times as fast as mine" in found.text
    assert "-2.0 [-3.0, -1.0] points in finance" in found.text
    assert f"--against {HOSTILE}" in found.code[0]
