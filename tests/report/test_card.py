"""The model card: front matter that the hub reads, and numbers that are the provenance's."""

from __future__ import annotations

import pytest
import yaml

import provenances
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.report.card import model_card
from gaprune.report.page import report_page
from gaprune.report.sentences import recovery_lines


def front(card: str) -> dict:
    opening, matter, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter)


def score(task, domain, value, parent):
    return Score(task=task, domain=domain, kind="STS", metric="Spearman", value=value, parent=parent, seconds=1.0)


def test_front_matter():
    matter = front(model_card(provenances.unstructured(), None))
    assert matter["library_name"] == "sentence-transformers"
    assert matter["pipeline_tag"] == "sentence-similarity"
    assert {"sentence-transformers", "pruning", "gaprune"} <= set(matter["tags"])
    assert matter["base_model"] == "org/small-model"


def test_the_parents_licence_languages_and_tags_are_carried_over():
    card = {"license": "apache-2.0", "language": "en", "tags": ["finance", "sentence-transformers"]}
    parent = {"name": "org/small-model", "local": False, "weights_sha256": "ab" * 32, "card": card}
    matter = front(model_card(provenances.unstructured(parent=parent), None))
    assert (matter["license"], matter["language"], matter["base_model_relation"]) == ("apache-2.0", ["en"], "finetune")
    assert {"finance", "pruning"} <= set(matter["tags"])
    assert len(set(matter["tags"])) == len(matter["tags"])


def test_results_are_listed_for_the_hub():
    scores = (score("sts", "finance", 0.75, 0.8), score("other", "", 0.5, None))
    text = model_card(provenances.structured(), Evaluation(scores))
    (index,) = front(text)["model-index"]
    assert index["name"] == "small-model-pruned-3k"
    found = {each["dataset"]["name"]: each["metrics"][0] for each in index["results"]}
    assert len(index["results"]) == 2
    assert (found["sts"]["value"], found["sts"]["name"], found["other"]["value"]) == (0.75, "Spearman", 0.5)
    assert "93.8% of its parent's 0.8000" in text


def test_a_score_that_is_too_good_is_warned_of_and_not_listed_for_the_hub():
    leak = "domain data: 3 of 6 distinct texts (50.0%) also in the evaluation task sts, whose result is too good."
    evaluation = Evaluation((score("sts", "finance", 0.75, 0.8),))
    text = model_card(provenances.structured(leaks=(leak,)), evaluation)
    assert "model-index" not in front(text)
    assert leak in text.partition("## Method")[0]
    page = report_page(provenances.structured(leaks=(leak,), evaluation=evaluation))
    assert leak in page.partition('id="quality"')[0]


def test_a_name_and_how_it_is_used():
    prompts = {"query": 'find: "', "passage": None}
    card = model_card(provenances.structured(prompts=prompts), None)
    assert "# small-model-pruned-3k\n" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert repr(prompts["query"]) in code
    assert "prompt" not in model_card(provenances.structured(), None).partition("```python\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", ["/home/me/model", "./model", "../models/model", "a model in memory", "model"])
def test_only_a_hub_id_is_a_base_model(name):
    card = model_card(provenances.unstructured(parent={"name": name, "weights_sha256": "ab" * 32}), None)
    assert "base_model" not in front(card)
    assert "/home/me" not in card, "a card is public, the folders of its author are not"


def test_method_in_words_and_numbers():
    card = model_card(provenances.unstructured(), None)
    for row in (
        "| parent | small-model |",
        "| parent revision | c0ffee |",
        "| criterion | dai (general_share=0.2, tempering=0.8) |",
        "| granularity | weight |",
        "| allocation | global |",
        "| targets | mlp, attention (3 linear layers) |",
        "| sparsity of the selected weights | 50.00 % (1,000 of 2,000) |",
        "| sparsity of the whole model | 23.46 % of 4,263 parameters |",
        "| domain | mine.jsonl | 1,234 | 1,000 with negatives of their own, 234 with 2 negatives each, mined with",
        "| general | all-nli | 99 | 99 with in-batch negatives only | `efefefefefefefef` |",
    ):
        assert row in card
    assert "SentenceTransformer(" in card
    assert "maximum text length" not in card


def test_zeros_are_not_sold_as_speed():
    card = model_card(provenances.unstructured(), None)
    assert "neither smaller nor faster" in card
    assert "--width, --hidden, --depth or --vocabulary" in card
    assert "unless they have kernels for an N:M pattern" in card


def test_removed_structures_by_their_labels():
    card = model_card(provenances.structured(), None)
    assert "| removed layers | 2 of 6 |" in card
    assert "| removed FFN neurons per layer | 512 of 1,536 |" in card
    assert "| parameters | 3,000 of 4,000 (25.00 % removed) |" in card
    assert "neither smaller nor faster" not in card, "it is both"


@pytest.mark.parametrize(("kept", "outcome"), [(True, "kept"), (False, "rolled back")])
def test_reconstruction(kept, outcome):
    method = provenances.structured().method.model_dump() | {"reconstruction": provenances.reconstruction(kept=kept)}
    (row,) = [
        line
        for line in model_card(provenances.structured(method=method), None).splitlines()
        if line.startswith("| reconstruction |")
    ]
    assert "ridge 0.1" in row
    assert outcome in row
    assert "domain 0.2500 without and 0.1250 with" in row


def test_recovery():
    card = model_card(provenances.unstructured(recoveries=[provenances.recovery()]), None)
    assert "fine-tuned, with its zeros kept at zero" in card
    for row in (
        "| steps | 90 of 100; the weights are those of step 80 |",
        "| triplets per step | 32, 25% of them general |",
        "| loss | 1 x contrastive |",
        "| held-out loss | 0.5000 before, 0.2500 after |",
        "| domain triplets | 900 of mine.jsonl |",
        "| held-out triplets | 100 of mine.jsonl |",
    ):
        assert row in card
    twice = provenances.recovery(round={"sparsity": 0.25, "reconstruction": None})
    card = model_card(provenances.unstructured(recoveries=[twice, twice]), None)
    assert "## Recovery 2" in card
    assert "| pruned before it | 25.00 % of the selected weights; reconstruction: none |" in card


def test_a_model_that_was_not_pruned():
    method = provenances.unstructured().method.model_dump() | {"criterion": None, "options": {}}
    card = model_card(provenances.unstructured(method=method, recoveries=[provenances.recovery()]), None)
    assert "# small-model-fine-tuned" in card
    assert "Calibration data" not in card


def test_a_parent_without_revision_is_known_by_its_weights():
    parent = {"name": "org/small-model", "local": False, "weights_sha256": "ab" * 32}
    assert "| parent revision | weights abababababab |" in model_card(provenances.unstructured(parent=parent), None)


def test_a_pattern_and_a_criterion_without_data_or_constants():
    pruning = {"type": "unstructured", "granularity": "2:4", "targets": ["mlp"], "linear_layers": ["a"]}
    card = model_card(
        provenances.unstructured(method={"criterion": "magnitude", "pruning": pruning}, calibration={}), None
    )
    assert "| criterion | magnitude |" in card
    assert "| allocation | fixed by the granularity |" in card
    assert "this criterion uses the weights alone" in card


def test_a_length_limit_is_said():
    for evaluation, steps in (
        (None, "calibration"),
        (Evaluation((score("c", "", 0.5, 0.6),)), "calibration and evaluation"),
    ):
        card = model_card(provenances.unstructured(max_length=128, evaluation=evaluation), evaluation)
        assert f"| maximum text length in {steps} | 128 tokens; the model itself" in card


def test_evaluation_beside_the_parent():
    evaluation = Evaluation((score("a|b", "finance", 0.5, 0.6), score("c", "general", 0.25, 0.2)))
    card = model_card(provenances.unstructured(), evaluation)
    section = card.partition("## Evaluation\n\n")[2].partition("\n## ")[0]
    assert section.splitlines() == [
        "| domain | task | metric | this model | parent | change [95 %] |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        r"| finance | a\|b | Spearman | 0.5000 | 0.6000 | -0.1000 |",
        "| general | c | Spearman | 0.2500 | 0.2000 | +0.0500 |",
    ]
    alone = model_card(provenances.unstructured(), Evaluation((score("c", "", 0.25, None),)))
    assert "| all | c | Spearman | 0.2500 |  |  |" in alone


def test_constants_can_be_given_on_the_command_line_as_they_stand():
    options = {"centred": True, "general_share": 3 / 13, "swaps": 128}
    method = provenances.unstructured().method.model_dump() | {"options": options}
    card = model_card(provenances.unstructured(method=method), None)
    assert "| criterion | dai (centred=true, general_share=0.230769, swaps=128) |" in card


@pytest.mark.parametrize(("best", "said"), [(0, "changed nothing"), (8, "then distilled from its parent, with its")])
def test_a_distillation_that_did_not_help_is_not_sold_as_one(best, said):
    points = [
        {"step": step, "tokens": 2600 * step, "held_out_cosine": cosine} for step, cosine in ((0, 0.9), (8, 0.8))
    ]
    data = {"general_share": 0, "tokens": 20800, "passes": 1, "spans_as_queries": False}
    data["domain"] = {"name": "docs", "passages": 9, "sha256": "00"}
    recovery = provenances.recovery()
    recovery |= {"data": data, "training": recovery["training"] | {"best_step": best, "distillation": points}}
    made = provenances.unstructured(recoveries=(recovery,))
    assert said in model_card(made, None)
    assert ("The weights from before were kept" in " ".join(recovery_lines(made.recoveries[0]))) == (not best)
