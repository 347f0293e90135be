"""Prompts that the texts have already, and prompts of a model that are not used: seen by every command."""

from __future__ import annotations

import json

import pytest

import gaprune
from gaprune.data.checks.check import check
from gaprune.data.checks.prompts import check_prompts, prompt_problems
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import DataError
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts, resolve_prompts


def prefixed(triplets, query="", passage="", of=1):
    items = [
        item
        if number % of
        else Triplet(query + item.query, passage + item.positive, tuple(passage + text for text in item.negatives))
        for number, item in enumerate(triplets)
    ]
    return Triplets(items, "domain.jsonl")


@pytest.fixture
def prompted(bert):
    bert.prompts = {"query": "Instruct: find\nQuery: ", "document": ""}
    return bert


def test_texts_that_have_their_prompt_are_refused(prompted, toy_triplets, capsys):
    prompts = resolve_prompts(prompted)
    with pytest.raises(DataError, match=r"domain\.jsonl: 7 of 7 query .*'Instruct: find\\nQuery:'.*\n.*query_p"):
        check_prompts(prompted, prompts, [prefixed(toy_triplets, prompts.query)])
    check_prompts(prompted, prompts, [toy_triplets, None])
    assert not capsys.readouterr().err
    check_prompts(prompted, prompts, [prefixed(toy_triplets, prompts.query, of=4)])
    assert "2 of 7 query texts" in capsys.readouterr().err
    off = resolve_prompts(prompted, query="")
    check_prompts(prompted, off, [prefixed(toy_triplets, prompts.query)])
    with pytest.raises(DataError, match="passage texts begin with the prompt"):
        check_prompts(prompted, Prompts(passage="text: "), [prefixed(toy_triplets, passage="text: ")])


@pytest.mark.parametrize(
    "beginning",
    [
        "query: ",
        "Query: ",
        "passage: ",
        "search_query: ",
        "Instruct: find\nQuery: ",
        "Represent this sentence for searching relevant passages: ",
        "task: search result | query: ",
    ],
)
def test_beginnings_that_look_like_prompts_are_said(bert, toy_triplets, beginning):
    doubtful, fatal = prompt_problems(bert, Prompts(), prefixed(toy_triplets, beginning))
    assert not fatal
    assert len(doubtful) == 1
    assert "looks like a prompt" in doubtful[0]
    assert prompt_problems(bert, Prompts(), prefixed(toy_triplets, beginning, of=4)) == ([], [])


@pytest.mark.parametrize(
    ("own", "given", "named"),
    [
        ({"search_query": "s: ", "search_document": "d: "}, {}, True),
        ({"search_query": "s: ", "search_document": "d: "}, {"query": "search_query"}, True),
        ({"search_query": "s: ", "search_document": "d: "}, {"query": "s: ", "passage": "d: "}, False),
        ({"query": "q: ", "document": "", "sts_query": "s: "}, {}, False),
        ({"query": "q: ", "document": "", "search_document": "d: "}, {}, True),
        ({"query": "", "document": ""}, {}, False),
    ],
)
def test_prompts_of_other_names_are_said(bert, toy_triplets, own, given, named):
    bert.prompts = own
    doubtful, fatal = prompt_problems(bert, resolve_prompts(bert, **given), toy_triplets)
    assert not fatal
    assert bool(doubtful) == named
    assert all("not used" in sentence and "query_prompt" in sentence for sentence in doubtful)


def test_the_options_that_are_proposed_use_each_prompt_for_its_role(bert, toy_triplets):
    bert.prompts = {"retrieval.passage": "d: ", "retrieval.query": "s: "}
    (said,), _ = prompt_problems(bert, resolve_prompts(bert), toy_triplets)
    assert "--set query_prompt=retrieval.query --set passage_prompt=retrieval.passage" in said


def test_a_prompt_is_given_by_its_name(bert):
    bert.prompts = {"search_query": "s: ", "search_document": "d: "}
    assert resolve_prompts(bert, query="search_query", passage="search_document") == Prompts("s: ", "d: ")
    assert resolve_prompts(bert, query="other: ", passage="") == Prompts("other: ", "")


@pytest.fixture
def folder(prompted, tmp_path):
    prompted.save(str(tmp_path / "model"), create_model_card=False)
    return tmp_path / "model"


def test_every_verb_refuses_before_it_begins(folder, toy_triplets, tmp_path):
    prompt = "Instruct: find\nQuery: "
    twice = prefixed(toy_triplets, prompt)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    rows = [{"query": item.query, "positive": item.positive, "negatives": item.negatives} for item in twice]
    (tasks / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = {
        "prune": lambda: gaprune.prune(folder, domain=twice, sparsity=0.5),
        "prune with tasks": lambda: gaprune.prune(folder, domain=toy_triplets, sparsity=0.5, tasks=tasks),
        "recover": lambda: gaprune.recover(folder, domain=twice, steps=1, batch_size=2, held_out=0.0),
        "evaluate": lambda: gaprune.evaluate(folder, tasks=tasks),
        "compare": lambda: gaprune.compare(folder, criteria=["magnitude", "wanda"], domain=toy_triplets, tasks=tasks),
    }
    for name, run in runs.items():
        with pytest.raises(DataError, match="7 of 7 query texts begin with the prompt"):
            pytest.fail(f"{name}: {run()}")
    assert gaprune.evaluate(folder, tasks=tasks, query_prompt="").mean() >= 0


def test_the_check_of_data_reports_it(folder, toy_triplets):
    model = load_model(folder, device="cpu")
    prompts = resolve_prompts(model)
    report = check(prefixed(toy_triplets, prompts.query), tokenizer_model=model, prompts=prompts)
    assert len(report.unusable) == 1
    assert "begin with the prompt" in report.unusable[0]
    assert report.unusable[0] in report.problems
    assert not check(toy_triplets, tokenizer_model=model, prompts=prompts).unusable
