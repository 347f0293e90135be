"""The model card: front matter that the hub reads, and numbers that are the provenance's."""

from __future__ import annotations

import copy

import pytest
import yaml

from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.report.card import model_card

PROVENANCE = {
    "parent": {"name": "org/small-model", "revision": "main", "commit": "c0ffee", "weights_sha256": "ab" * 32},
    "method": {
        "criterion": "dai",
        "options": {"general": 0.2, "tempering": 0.8},
        "granularity": "weight",
        "allocation": "global",
        "targets": ["mlp", "attention"],
        "matrices": ["a", "b", "c"],
        "reconstruct": None,
    },
    "sparsity": {"of_selected": 0.5, "of_model": 0.23456, "removed": 1000, "selected": 2000, "parameters": 4263},
    "calibration": {
        "domain": {
            "name": "mine.jsonl",
            "triplets": 1234,
            "with_own_negatives": 1000,
            "mined_negatives_each": 2,
            "sha256": "cd" * 32,
        },
        "general": {
            "name": "sentence-transformers/all-nli",
            "triplets": 99,
            "with_own_negatives": 0,
            "mined_negatives_each": 0,
            "sha256": "ef" * 32,
        },
    },
    "recipe": {"max_length": None},
}


@pytest.fixture
def provenance():
    return copy.deepcopy(PROVENANCE)


def front(card: str) -> dict:
    opening, matter, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter)


def score(task, domain, value, parent):
    return Score(task=task, domain=domain, kind="STS", metric="Spearman", value=value, parent=parent, seconds=1.0)


def test_front_matter(provenance):
    matter = front(model_card(provenance, None))
    assert matter["library_name"] == "sentence-transformers"
    assert matter["pipeline_tag"] == "sentence-similarity"
    assert {"sentence-transformers", "pruning", "gaprune"} <= set(matter["tags"])
    assert matter["base_model"] == "org/small-model"


@pytest.mark.parametrize("name", ["/home/me/model", "./model", "../models/model", "a model in memory", "model"])
def test_only_a_hub_id_is_a_base_model(provenance, name):
    provenance["parent"]["name"] = name
    card = model_card(provenance, None)
    assert "base_model" not in front(card)
    assert "/home/me" not in card, "a card is public, the folders of its author are not"


def test_a_relative_folder_is_no_hub_id(provenance, tmp_path, monkeypatch):
    (tmp_path / "org" / "small-model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in front(model_card(provenance, None))


def test_method_in_words_and_numbers(provenance):
    card = model_card(provenance, None)
    for row in (
        "| parent | small-model |",
        "| parent revision | c0ffee |",
        "| criterion | dai (general 0.2, tempering 0.8) |",
        "| granularity | weight |",
        "| allocation | global |",
        "| targets | mlp, attention (3 matrices) |",
        "| sparsity of the selected weights | 50.00 % (1,000 of 2,000) |",
        "| sparsity of the whole model | 23.46 % of 4,263 parameters |",
        "| domain | mine.jsonl | 1,234 | 1,000 with their own, 234 with 2 each mined by the parent | `cdcdcd",
        "| general | all-nli | 99 | 99 with in-batch only | `efefefefefefefef` |",
    ):
        assert row in card
    assert "SentenceTransformer(" in card
    assert "texts cut in calibration" not in card


def test_zeros_are_not_sold_as_speed(provenance):
    card = model_card(provenance, None)
    assert "runs as fast" in card
    assert "`gaprune prune --width`, `--heads`, `--depth` or `--vocabulary`" in card
    assert "do not profit from zeros, unless they have kernels for an N:M pattern" in card


def test_a_parent_without_revision_is_known_by_its_weights(provenance):
    provenance["parent"] |= {"revision": None, "commit": None}
    assert "| parent revision | weights abababababab |" in model_card(provenance, None)


def test_a_pattern_and_a_criterion_without_data_or_constants(provenance):
    provenance["method"] |= {"criterion": "magnitude", "options": {}, "granularity": "2:4", "allocation": None}
    provenance["calibration"] = {"domain": None, "general": None}
    card = model_card(provenance, None)
    assert "| criterion | magnitude |" in card
    assert "| allocation | fixed by the granularity |" in card
    assert "this criterion looks at weights alone" in card


def test_a_length_limit_is_said(provenance):
    provenance["recipe"]["max_length"] = 128
    assert "| texts cut in calibration and evaluation | at 128 tokens |" in model_card(provenance, None)


def test_evaluation_beside_the_parent(provenance):
    evaluation = Evaluation((score("a|b", "finance", 0.5, 0.6), score("c", "general", 0.25, 0.2)))
    section = model_card(provenance, evaluation).partition("## Evaluation\n\n")[2].partition("\n## ")[0]
    assert section.splitlines() == [
        "| domain | task | metric | this model | parent | change |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        r"| finance | a\|b | Spearman | 0.5000 | 0.6000 | -0.1000 |",
        "| finance | mean |  | 0.5000 | 0.6000 | -0.1000 |",
        "| general | c | Spearman | 0.2500 | 0.2000 | 0.0500 |",
        "| general | mean |  | 0.2500 | 0.2000 | 0.0500 |",
        "| all | mean |  | 0.3750 | 0.4000 | -0.0250 |",
    ]
    alone = model_card(provenance, Evaluation((score("c", "", 0.25, None),)))
    assert "| all | c | Spearman | 0.2500 |  |  |" in alone
