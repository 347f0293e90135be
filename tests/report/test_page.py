"""The page about a result: whole, for every kind of result, loading nothing, and the same when made again."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gaprune
import provenances
from gaprune.config.files import load_recipe
from gaprune.config.recipe import Recipe
from gaprune.config.shrink import ShrinkOptions
from gaprune.errors import ModelError
from gaprune.evaluation.quality.changed import ChangedQueries
from gaprune.evaluation.quality.index import IndexScore, SizeScore
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.export.provenance import Provenance
from gaprune.report.page import report_page
from gaprune.report.shrink import answer_sentence, quality_remarks, remarks, shrink_rows
from toys import tasks_folder

VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = "<script>alert('&')$x^2$\"--><b>"
ALWAYS = {"answer", "removed", "data", "provenance"}


class Parsed(HTMLParser):
    """What a page is made of; fails where tags are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.code: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.sections += [found["id"]] if tag == "section" else []
        links = (found.get(name) for name in ("src", "href", "xlink:href", "srcset", "data"))
        self.loads += [link for link in links if link is not None and not link.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.code if self.open and self.open[-1] == "code" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def evaluation() -> Evaluation:
    index = IndexScore(value=0.72, query_cosine=0.9, passage_cosine=0.8, overlap=0.7)
    score = Score(
        task="HeldOut", domain="domain", kind="retrieval", metric="nDCG@10", value=0.75, seconds=1.0, parent=0.8
    )
    scores = (Score(**{**vars(score), "index": index}),)
    sizes = (SizeScore(dimensions=384, reduction="", numbers="float", bytes=1536.0, value=0.75),)
    return Evaluation(scores, (384, 384), sizes)


def target() -> dict:
    size = {"layers": 6, "width": 1536, "hidden": 384, "tokens": 30522}
    mixes = [
        {**size, "layers": layers, "parameters": 9000 + layers, "speedup": 2.0, "estimated_degradation": 1 / layers}
        for layers in (4, 3)
    ]
    return {
        "kind": "speedup",
        "limit": 2.0,
        "asked": 0.5,
        "parent": size,
        "measured": True,
        "chosen": mixes[0],
        "candidates": mixes,
    }


def searched(**changes) -> Provenance:
    removed = [{"kind": "depth", "label": "layers", "removed": 2, "total": 6, "kept": {"layers": [0, 1, 4, 5]}}]
    pruning = {"type": "structured", "removed": removed, "target": target()}
    method = {"criterion": "dai", "pruning": pruning}
    recipe = Recipe.build({"target": "speedup=2", "domain": "mine.jsonl", "columns": {"query": "title"}})
    return provenances.structured(
        **{"method": method, "evaluation": evaluation(), "recipe": recipe.model_dump(mode="json")} | changes
    )


def shrunk() -> Provenance:
    record = {
        "target": "speedup=2",
        "runtime": "torch",
        "speed": {
            "latency": 2.0, "throughput": 2.0, "milliseconds": [8.0, 4.0], "texts_per_second": [50.0, 100.0]
        },
        "expected": [2.0, 2.2],
        "minutes": {"data": 0.1, "pruned": 2.0, "trained": 3.0},
        "training_triplets": 900,
        "held_out_queries": 100,
        "texts": 1000,
        "is_labelled": True,
        "warnings": [HOSTILE],
    }  # fmt: skip
    return searched(shrink=record, recoveries=[provenances.recovery()])


def zeros() -> Provenance:
    layers = {f"encoder.layer.{block}.{kind}": 0.25 * (block + 1) for block in range(2) for kind in ("a", "b.c")}
    sparsity = provenances.unstructured().sparsity.model_dump() | {"by_linear_layer": {**layers, "dense": 0.5}}
    return provenances.unstructured(sparsity=sparsity)


RESULTS = {
    "zeros": (zeros, {"cost"}, 1),
    "search": (searched, {"quality", "cost", "mixes", "recipe"}, 1),
    "recovered": (lambda: provenances.structured(recoveries=[provenances.recovery()] * 2), {"cost", "recovery"}, 3),
    "shrunk": (shrunk, {"quality", "cost", "mixes", "recovery", "recipe"}, 2),
}


@pytest.mark.parametrize(("make", "sections", "pictures"), RESULTS.values(), ids=RESULTS)
def test_every_kind_of_result(make, sections, pictures):
    page = report_page(make())
    found = Parsed(page)
    assert set(found.sections) == ALWAYS | sections
    assert found.tags.count("svg") == pictures
    assert len(found.ids) == len(set(found.ids))
    assert found.loads == []
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert "@import" not in page
    assert len(page.encode()) < 2_000_000
    assert report_page(Provenance.model_validate_json(make().model_dump_json(by_alias=True))) == page


def test_the_answer_comes_first():
    found = Parsed(report_page(shrunk()))
    assert found.sections[0] == "answer"
    for said in ("1.3 times smaller", "2.0 times faster", "93.8%", "again"):
        assert said in found.text


def test_a_parent_that_finds_nothing():
    (score,) = evaluation().scores
    scores = Evaluation((replace(score, parent=0.0),), (384, 384))
    found = Parsed(report_page(shrunk().model_copy(update={"evaluation": scores})))
    assert "an nDCG@10 of 0.750 (its parent has 0)" in found.text


def test_a_task_without_an_interval_is_explained():
    (score,) = evaluation().scores
    scores = Evaluation((replace(score, interval=(-0.1, 0.02)),), (384, 384))
    known = Parsed(report_page(shrunk().model_copy(update={"evaluation": scores}))).text
    unknown = Parsed(report_page(shrunk())).text
    assert "-0.0500 [-0.1000, +0.0200]" in known
    assert "no interval" in unknown
    assert "no interval" not in known


def test_numbers_are_those_of_the_provenance():
    text = Parsed(report_page(shrunk())).text
    for number in ("0.7500", "-0.0500", "8.00 ms", "4.00 ms", "9,004", "4 of 6", "2.20", "900 of mine.jsonl"):
        assert number in text


def test_pictures_follow_the_colours_of_the_page():
    page = report_page(zeros())
    drawing = page[page.index("<svg") : page.index("</svg>")]
    assert "currentColor" in drawing
    assert ">25%<" in drawing
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", drawing)) == {"#3d93d6"}


def test_names_are_shown_as_they_are():
    parent = {"name": HOSTILE, "local": True, "weights_sha256": "ab" * 32}
    data = {"domain": provenances.data(HOSTILE, 10)}
    layers = {f"encoder.layer.0.{HOSTILE}": 0.5}
    sparsity = provenances.unstructured().sparsity.model_dump() | {"by_linear_layer": layers}
    page = report_page(provenances.unstructured(parent=parent, calibration=data, sparsity=sparsity))
    found = Parsed(page)
    assert "<script" not in page
    assert found.text.count("alert('&')") >= 2


def test_queries_are_side_by_side_with_both_rankings():
    mine, its = (
        [{"text": text, "is_relevant": text == HOSTILE} for text in pair] for pair in (("c", "d"), (HOSTILE, "c"))
    )
    query = {"query": HOSTILE, "value": 0.25, "parent": 1.0, "found": mine, "found_by_parent": its}
    page = report_page(shrunk(), ChangedQueries.model_validate({"worse": [query]}))
    found = Parsed(page)
    assert "queries" in found.sections
    assert "Worse: nDCG@10 0.250, the parent's 1.000." in found.text
    assert f"✓ {HOSTILE}" in "".join(found.texts)
    assert "<script" not in page


def test_recipes_can_be_copied(tmp_path):
    recorded = searched()
    (code,) = Parsed(report_page(recorded)).code
    (tmp_path / "prune.yaml").write_text(code, encoding="utf-8")
    assert Recipe.build(load_recipe(tmp_path / "prune.yaml")).model_dump(mode="json") == recorded.recipe


def test_the_recipe_of_a_shrunk_model_is_one_of_shrink(tmp_path):
    options = {"domain": "mine.jsonl", "speedup": "2", "minutes": 30.0, "prune": {"triplets": 64}}
    made = shrunk()
    page = report_page(made.model_copy(update={"shrink": made.shrink.model_copy(update={"options": options})}))
    (code,) = Parsed(page).code
    (tmp_path / "shrink.yaml").write_text(code, encoding="utf-8")
    assert load_recipe(tmp_path / "shrink.yaml", ShrinkOptions) == options


def test_a_shrunk_model_that_was_trained_again_and_judged_by_tasks(tmp_path):
    """Its page has the recipes of both steps, and says nothing of held-out queries; shrink trained it twice itself."""
    made, options = shrunk(), {"domain": "mine.jsonl", "speedup": "2"}
    (score,) = made.evaluation.scores
    judged = replace(made.evaluation, scores=(replace(score, domain="zoo", value=1.0),), intervals={})
    changes = {
        "shrink": made.shrink.model_copy(update={"options": options}),
        "evaluation": judged,
        "recoveries": [each.model_copy(update={"options": {"steps": 7}}) for each in made.recoveries * 3],
    }
    query = {"query": "q", "value": 0.25, "parent": 1.0, "found": [], "found_by_parent": []}
    found = Parsed(report_page(made.model_copy(update=changes), ChangedQueries.model_validate({"worse": [query]})))
    assert "The queries of the tasks whose nDCG@10 changed most" in found.text
    assert "too easy" not in found.text
    first, second = found.code
    assert "gaprune shrink" in first
    assert "gaprune recover" in second


@pytest.mark.parametrize("value", [0.6, 1.2])
def test_a_score_above_the_parents_is_not_a_share_that_was_kept(value):
    made = shrunk()
    score = replace(made.evaluation.scores[0], value=value, index=None)
    found = Evaluation((score,), (384, 384))
    row = shrink_rows(made, found)[-1][-1]
    assert row == ("75.0% kept" if value < 0.8 else "50.0% above")
    assert ("your labels" in answer_sentence(made, found)) == (value > 0.8)


def test_a_perfect_score_is_questioned_beside_it():
    made = shrunk()
    for value in (0.6, 1.0):
        score = replace(made.evaluation.scores[0], value=value, index=None)
        found = Evaluation((score,), (384, 384))
        assert any("too easy" in each for each in remarks(made, found)) == (value == 1)
    few = made.model_copy(
        update={"shrink": made.shrink.model_copy(update={"warnings": ("30 held-out queries: few.",)})}
    )
    assert Parsed(report_page(few)).text.count("30 held-out queries: few.") == 2, "in the answer and with the data"


@pytest.mark.parametrize(
    ("target", "reached", "is_missed"),
    [("speedup=2", 1.9, True), ("speedup=2", 2.0, False), ("size=25MB", 1.0, False)],
)
def test_a_speed_that_was_asked_for_and_missed_stands_beside_the_answer(target, reached, is_missed):
    made = shrunk()
    speed = made.shrink.speed.model_copy(update={"latency": reached, "throughput": reached, "error": 0.0})
    made = made.model_copy(update={"shrink": made.shrink.model_copy(update={"target": target, "speed": speed})})
    found = [each for each in remarks(made, made.evaluation) if "was asked for" in each]
    assert len(found) == is_missed
    assert all("2 was asked for; 1.90 was measured" in each for each in found)
    assert ("2 was asked for; 1.90 was measured" in Parsed(report_page(made)).text) == is_missed


@pytest.mark.parametrize(
    ("kind", "parent", "queries", "said"),
    [
        ("retrieval", 1.0, 60, ["too easy"]),
        ("retrieval", None, 60, []),
        ("retrieval", 0.7, 49, ["49 queries"]),
        ("retrieval", 1.0, 3, ["3 queries", "too easy"]),
        ("STS", 1.0, 3, []),
    ],
)
def test_tasks_that_can_show_nothing_are_named(kind, parent, queries, said):
    score = replace(shrunk().evaluation.scores[0], task="Mine", kind=kind, value=0.8, parent=parent)
    found = quality_remarks(Evaluation((replace(score, items=np.zeros(queries)),)))
    assert len(found) == len(said)
    assert all("Mine" in remark and each in remark for remark, each in zip(found, said, strict=True))


@pytest.fixture(scope="module")
def pruned(folder_of, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("page")
    return gaprune.prune(
        folder_of("bert"),
        criterion="magnitude",
        sparsity=0.5,
        tasks=tasks_folder(place / "tasks"),
        out=place / "out",
        device="cpu",
    ).out


class TestFolders:
    def test_a_page_is_written_beside_the_card_and_made_again(self, pruned):
        page = (pruned / "report.html").read_bytes()
        assert set(Parsed(page.decode()).sections) >= {"answer", "quality", "removed", "recipe"}
        (pruned / "report.html").unlink()
        assert gaprune.write_report(pruned).read_bytes() == page

    def test_a_recovered_model_has_one(self, pruned, toy_triplets, tmp_path):
        gaprune.recover(
            pruned, domain=toy_triplets, steps=2, batch_size=2, held_out=0.3, out=tmp_path / "out", device="cpu"
        )
        found = Parsed((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
        assert "recovery" in found.sections

    @pytest.mark.parametrize("name", ["empty", "nowhere"])
    def test_other_folders_are_refused(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ModelError, match=name):
            gaprune.write_report(tmp_path / name)
        assert not list((tmp_path / "empty").iterdir())

    def test_scores_that_gaprune_did_not_write(self, tmp_path):
        content = zeros().model_dump_json(by_alias=True).replace('"evaluation":null', '"evaluation":{"a":1}')
        (tmp_path / "gaprune.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match="evaluation"):
            gaprune.write_report(tmp_path)


def test_training_data_and_what_was_not_measured_are_named():
    score = Score(task="t", domain="", kind="STS", metric="Spearman", value=0.5, parent=0.6, seconds=1.0)
    recovery = provenances.recovery(options={"steps": 50})
    page = report_page(provenances.structured(recoveries=[recovery], evaluation=Evaluation((score,))))
    assert "900 triplets" in page.partition('id="data"')[2].partition("</section>")[0]
    assert "gaprune bench" in page.partition('id="cost"')[2].partition("</section>")[0]
    assert "gaprune recover DIR --recipe recover.yaml --tasks TASKS" in page
