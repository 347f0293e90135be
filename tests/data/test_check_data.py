"""Checking data: numbers and sentences on sets made by hand."""

import json

import pytest

from gaprune.data.checks.check import check
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ModelError
from gaprune.models.prompts import Prompts
from gaprune.util.progress import quiet

DOMAIN = Triplets(
    [
        Triplet("north east", "south", ("west", "up"), "d:1"),
        Triplet("North-East!", "South.", ("west", "up"), "d:2"),  # a duplicate
        Triplet("north east", "up", (), "d:3"),  # the query again, and d:1 has its positive as a negative
        Triplet("west", "east", ("East?", "north"), "d:4"),  # its positive among its negatives
        Triplet("south", "South", ("north up",), "d:5"),  # the query is the positive
        Triplet("query " * 9, "passage " * 7, ("up " * 6,), "d:6"),  # 11, 9 and 8 tokens with the two special ones
    ],
    "train.jsonl",
)
GENERAL = Triplets([Triplet("West", "passage one", ("north",), "g:1"), Triplet("q", "p", (), "g:2")], "train.jsonl")
CLEAN = Triplets([Triplet("north", "south", ("west",), "c:1"), Triplet("east", "up", ("west",), "c:2")], "clean")


def test_numbers():
    (report,) = check(DOMAIN).sets
    assert (report.role, report.name) == ("domain", "train.jsonl")
    assert report.counts == {
        "triplets": 6,
        "texts": 20,
        "with_negatives": 5,
        "without_negatives": 1,
        "distinct_queries": 4,
        "distinct_positives": 4,
        "duplicate_triplets": 1,
        "duplicate_queries": 2,
        "positive_is_negative": 1,
        "negative_is_positive": 2,
        "query_is_positive": 1,
        "missing_text": 0,
    }


def test_problems_name_their_places():
    assert check(DOMAIN).problems == [
        "domain (train.jsonl): 1 triplet has its positive among its negatives: d:4.",
        "domain (train.jsonl): 2 triplets have a negative that is a positive of the same query elsewhere: d:1, d:2.",
        "domain (train.jsonl): 1 triplet has its query as its positive: d:5.",
        "domain (train.jsonl): 1 triplet is a duplicate: d:2 (as line 1).",
        (
            "domain (train.jsonl): 1 triplet has the query of an earlier triplet with other passages; in one batch "
            "the positive of one is a negative of the other: d:3 (as line 1)."
        ),
    ]


@pytest.mark.parametrize("word", ["nan", "None", "null"])
def test_words_for_a_missing_text_are_a_problem(word):
    items = [Triplet("north", "south", (word,), "d:1"), Triplet("none of these", "null and void", ("west",), "d:2")]
    (problem,) = check(Triplets(items, "a")).problems
    assert "1 triplet has 'nan'" in problem
    assert "d:1" in problem


def test_nothing_wrong():
    report = check(CLEAN, evaluation={"Task": ["other"]})
    assert report.problems == report.unusable == []
    assert [item.count for item in report.overlaps] == [0]


def test_many_places_are_shortened():
    items = [Triplet("q", "p", ("n",), f"a:{number}") for number in range(6)]
    assert check(Triplets(items, "a")).problems == [
        "domain (a): 5 triplets are duplicates: a:1 (as line 0), a:2 (as line 0), a:3 (as line 0) and 2 more."
    ]


def test_duplicates_in_other_files_and_in_files_without_lines():
    places = ("a.json:record 1", "a.json:record 2", "b.jsonl:3")
    report = check(Triplets([Triplet("q", "p", (), place) for place in places], "a"))
    assert report.unusable == ["domain (a): no triplet has a negative, and all have the same positive."]
    assert report.problems == [
        *report.unusable,
        "domain (a): 2 triplets are duplicates: a.json:record 2 (as record 1), b.jsonl:3 (as a.json:record 1).",
    ]


def test_made_triplets_may_repeat_queries_and_a_place_is_named_once():
    items = [Triplet("q", f"p{number}", (), "a:1") for number in range(6)]
    (problem,) = check(Triplets(items, "a")).problems
    assert problem.endswith(": a:1.")
    assert check(Triplets(items, "a"), made=True).problems == []


def test_many_common_texts_are_counted_and_a_few_named():
    items = [Triplet(f"q{number}", f"p{number}", (), f"a:{number}") for number in range(8)]
    report = check(Triplets(items, "a"), evaluation={"Task": [item.query for item in items]})
    assert report.overlaps[0].sources == tuple(f"a:{number} (query)" for number in range(5))
    assert report.problems == [
        (
            "domain: 8 of 16 distinct texts (50.0%) also in the evaluation task Task, whose result would be too good: "
            "a:0 (query), a:1 (query), a:2 (query) and 5 more."
        )
    ]


def test_triplets_without_a_source():
    assert check(Triplets([Triplet("q", "Q", ("n",))], "a")).problems == [
        "domain (a): 1 triplet has its query as its positive."
    ]


def test_lengths_in_words():
    report = check(Triplets([Triplet("w " * number, "a b", ("c",)) for number in range(1, 101)], "a"))
    assert (report.unit, report.limit) == ("words", None)
    query = report.sets[0].lengths["query"]
    assert (query.count, query.minimum, query.median, query.maximum, query.cut) == (100, 1, 50.5, 100, None)
    assert query.p95 == pytest.approx(95.05)
    assert report.sets[0].lengths["positive"].maximum == 2
    assert "negative" not in check(Triplets([Triplet("q", "p")], "a")).sets[0].lengths


def test_lengths_in_tokens(bert):
    with quiet():
        report = check(DOMAIN, tokenizer_model=bert)
    assert (report.unit, report.limit) == ("tokens", 8)
    lengths = report.sets[0].lengths
    assert (lengths["query"].minimum, lengths["query"].maximum, lengths["query"].cut) == (3, 11, 1)
    assert (lengths["positive"].maximum, lengths["positive"].cut) == (9, 1)
    assert (lengths["negative"].maximum, lengths["negative"].cut) == (8, 0)
    assert (
        "domain (train.jsonl): 1 of 6 query texts (17%) are longer than the model's limit and are cut."
        in report.problems
    )
    assert bert.tokenize(["up " * 20])["input_ids"].shape[1] == 8  # the tokenizer still cuts


def test_prompts_count(bert):
    with quiet():
        lengths = check(DOMAIN, tokenizer_model=bert, prompts=Prompts("query: ", "passage: ")).sets[0].lengths
    assert (lengths["query"].minimum, lengths["query"].maximum) == (5, 13)
    assert (lengths["negative"].maximum, lengths["negative"].cut) == (10, 1)


def test_rarely_cut_is_no_problem(bert):
    items = [Triplet(f"north {'up ' * (number == 0) * 9}", "p") for number in range(20)]
    with quiet():
        report = check(Triplets(items, "a"), tokenizer_model=bert)
    assert report.sets[0].lengths["query"].cut == 1
    assert not [problem for problem in report.problems if "cut" in problem]


def test_static_embeddings_have_no_limit(compass):
    with quiet():
        report = check(DOMAIN, tokenizer_model=compass)
    assert (report.unit, report.limit) == ("tokens", None)
    assert report.sets[0].lengths["query"].maximum == 9
    assert report.sets[0].lengths["query"].cut is None


def test_model_without_a_tokenizer(compass, monkeypatch):
    monkeypatch.setattr(type(compass), "tokenizer", None)
    with pytest.raises(ModelError, match="has no tokenizer"):
        check(DOMAIN, tokenizer_model=compass)


def test_overlap_of_domain_and_general():
    report = check(DOMAIN, general=GENERAL)
    (found,) = report.overlaps
    # different texts of the domain: north east, south, west, up, east, north, north up, and three long ones
    assert (found.left, found.right, found.is_evaluation) == ("domain", "general", False)
    assert found.count == 2
    assert found.distinct == 10
    assert found.sources == ("d:1 (negative) = g:1 (query)", "d:4 (negative) = g:1 (negative)")
    assert report.problems[-1] == (
        "domain: 2 of 10 distinct texts (20.0%) also in the general set, so domain and general data differ less: "
        "d:1 (negative) = g:1 (query), d:4 (negative) = g:1 (negative)."
    )


def test_overlap_with_evaluation():
    report = check(CLEAN, general=GENERAL, evaluation={"Task": ["NORTH", "none"], "Other": {"Passage one."}})
    found = {(item.left, item.right): (item.count, item.sources) for item in report.overlaps if item.is_evaluation}
    assert found == {
        ("domain", "Task"): (1, ("c:1 (query)",)),
        ("general", "Task"): (1, ("g:1 (negative)",)),
        ("domain", "Other"): (0, ()),
        ("general", "Other"): (1, ("g:1 (positive)",)),
    }
    assert (
        "general: 1 of 5 distinct texts (20.0%) also in the evaluation task Other, "
        "whose result would be too good: g:1 (positive)."
    ) in report.problems


def test_as_dict_is_plain(bert):
    with quiet():
        report = check(DOMAIN, general=GENERAL, evaluation={"Task": ["west"]}, tokenizer_model=bert)
    fields = report.as_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert fields["sets"][0]["lengths"]["query"]["cut"] == 1
    assert fields["overlaps"][0]["sources"] == ["d:1 (negative) = g:1 (query)", "d:4 (negative) = g:1 (negative)"]
    assert fields["problems"] == report.problems


def test_rows(bert):
    with quiet():
        report = check(DOMAIN, general=GENERAL, evaluation={"general": ["west"]}, tokenizer_model=bert)
    rows = report.rows()
    assert {len(row) for row in rows} == {3}
    assert rows[:3] == [("", "domain", "general"), ("name", "train.jsonl", "train.jsonl"), ("triplets", "6", "2")]
    table = {row[0]: row[1:] for row in rows}
    assert table["duplicate triplets"] == ("1", "0")
    assert table["query tokens: min, median, p95, max"] == ("3, 4, 10, 11", "3, 3, 3, 3")
    assert table["query cut at 8"] == ("1", "0")
    assert table["texts also in general"] == ("2 of 10 distinct texts (20.0%)", "")
    assert table["texts also in evaluation task general"] == (
        "1 of 10 distinct texts (10.0%)",
        "1 of 5 distinct texts (20.0%)",
    )


def test_what_was_not_found_is_one_sentence():
    report = check(Triplets([Triplet("q", "p"), Triplet("r", "p")], "a"), evaluation={"T": ["x"]})
    labels = [row[0] for row in report.rows()]
    for absent in ("duplicate triplets", "a text is 'nan', 'None' or 'null'", "texts also in evaluation task T"):
        assert absent in report.not_found
        assert absent not in labels
    found = check(Triplets([Triplet("q", "p"), Triplet("q", "p")], "a"))
    assert "duplicate triplets" not in found.not_found
    assert "duplicate triplets" in [row[0] for row in found.rows()]


def test_rows_without_negatives():
    table = dict(check(Triplets([Triplet("q", "p")], "a")).rows())
    assert not any(label.startswith("negative ") for label in table)
    assert "query cut at 8" not in table
