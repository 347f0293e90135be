"""The page about a comparison: the best criterion, the table, curves, and how to make it again."""

from __future__ import annotations

import pytest
from test_page import HOSTILE, Parsed

from gaprune.config.recipe import Recipe
from gaprune.evaluation.comparison import Cell, Comparison
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.evaluation.variants import Variant, Variants
from gaprune.report.comparison import comparison_page
from provenances import data


def scored(value: float) -> Evaluation:
    score = Score(task="T", domain="finance", kind="retrieval", metric="nDCG@10", value=value, seconds=1.0, parent=0.8)
    return Evaluation((score,))


@pytest.fixture
def comparison() -> Comparison:
    values = {
        ("dai", 0.5): (0.7, 0.72),
        ("wanda", 0.5): (0.6, 0.61),
        ("dai", 0.7): (0.5, 0.5),
        ("wanda", 0.7): (0.55, 0.51),
    }
    cells = [
        Cell(name, sparsity, seed, scored(value), triplets=64)
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
    return Comparison(scored(0.8), cells, settings, Variants({name: Variant(name) for name in ("dai", "wanda")}))


def test_the_page_is_whole_and_loads_nothing(comparison):
    page = comparison_page(comparison)
    found = Parsed(page)
    assert found.sections == ["answer", "quality", "curves", "data", "provenance", "recipe"]
    assert found.loads == []
    assert "<script" not in page
    assert len(found.ids) == len(set(found.ids))
    assert comparison_page(comparison) == page


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
    assert "--criteria dai,wanda --triplets 64" in found.text
