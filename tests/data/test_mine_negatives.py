"""Mining negatives with a model whose similarities are known: the passages of a compass."""

import sys

import pytest

from gaprune.data.mining import mine_negatives
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.models.prompts import Prompts
from gaprune.util.progress import quiet

# For "north": north 1, north east 0.71, east 0, south -1.
PAIRS = [
    Triplet("north", "north north", source="a:1"),
    Triplet("east", "north east", source="a:2"),
    Triplet("east east", "east", source="a:3"),
    Triplet("south", "south", source="a:4"),
]


def mine(items, model, count=1, prompts=None):
    with quiet():
        return mine_negatives(Triplets(items, "a"), model, count=count, prompts=prompts or Prompts())


def test_the_most_similar_other_passages_are_mined(compass, capsys):
    mined = mine(PAIRS, compass, count=2)
    assert [(item.query, item.positive, item.source) for item in mined] == [
        (item.query, item.positive, item.source) for item in PAIRS
    ]
    assert mined[0].negatives == ("north east", "east")
    assert mined[1].negatives == ("north north", "south")  # not "east", which is the query
    assert mined[2].negatives[0] == "north east"
    assert mined[3].negatives[0] == "east"
    assert mined.name == "a"
    assert capsys.readouterr() == ("", "")


def test_only_bars_of_ours_and_all_warnings_are_shown(compass, capsys, monkeypatch):
    original = compass.encode

    def warned(*texts, **options):
        sys.stderr.write("The model warns.\n")
        return original(*texts, **options)

    monkeypatch.setattr(compass, "encode", warned)
    mine_negatives(Triplets(PAIRS, "a"), compass, count=1, prompts=Prompts())
    said = capsys.readouterr().err
    assert "Batches" not in said
    assert "The model warns." in said


def test_every_positive_of_a_query_is_spared(compass):
    items = [*PAIRS, Triplet("north", "north east", source="a:5"), Triplet("north", "north north", source="a:6")]
    mined = mine(items, compass)
    assert mined[0].negatives == mined[4].negatives == mined[5].negatives == ("east",)
    assert [item.source for item in mined] == [f"a:{number}" for number in range(1, 7)]


def test_positives_that_differ_in_spelling_are_spared(compass):
    items = [
        Triplet("north", "north east"),
        Triplet("North?", "north."),
        Triplet("west", "north"),
        Triplet("up", "south"),
    ]
    mined = mine(items, compass)
    assert mined[0].negatives == mined[1].negatives == ("south",)
    assert mined[1].query == "North?"


def test_positive_of_a_triplet_is_spared_too_and_its_negatives_kept(compass):
    kept = Triplet("north", "north east", ("west",), "a:5")
    mined = mine([*PAIRS, kept], compass, count=2)
    assert mined[4] is kept
    assert "north east" not in mined[0].negatives
    assert mined[0].negatives == ("east", "west") or mined[0].negatives == ("west", "east")


def test_a_query_is_not_its_own_negative(compass):
    items = [Triplet("north", "north up"), Triplet("east", "north"), Triplet("south", "west")]
    assert mine(items, compass)[0].negatives == ("west",)


def test_triplets_come_back_as_they_are(compass):
    triplets = Triplets([Triplet("q", "p", ("n",))], "a")
    assert mine_negatives(triplets, compass, count=3, prompts=Prompts()) is triplets


def test_too_few_passages(compass):
    items = [*PAIRS, Triplet("north", "north east", source="a:5")]
    assert {len(item.negatives) for item in mine(items, compass, count=2)} == {2}
    with pytest.raises(DataError) as caught:
        mine(items, compass, count=3)
    assert str(caught.value).startswith(
        "3 of 5 pairs have fewer than 3 passages to mine negatives from: a:1 ('north'), a:2 ('east'), a:5 ('north')."
    )
    assert "fewer negatives" in caught.value.remedy
    assert "in-batch negatives" in caught.value.remedy


def test_long_lists_of_pairs_are_shortened(compass):
    with pytest.raises(DataError, match=r"7 of 7 pairs .*a:0 \('q0'\), .*a:4 \('q4'\) and 2 more\."):
        mine([Triplet(f"q{number}", "p", source=f"a:{number}") for number in range(7)], compass)


@pytest.mark.parametrize("count", [0, -1])
def test_count_below_one(compass, count):
    with pytest.raises(ConfigError, match=f"negatives: {count} is below 1"):
        mine(PAIRS, compass, count=count)


def test_prompts_are_used(compass, monkeypatch):
    # The query prompt turns every query to the south; the model's own prompts are switched off where none is given.
    mined = mine(PAIRS, compass, prompts=Prompts(query="south south south "))
    assert mined[0].negatives == ("south",)
    monkeypatch.setattr(compass, "prompts", {"query": "south south south ", "document": "west west west "})
    assert mine(PAIRS, compass)[0].negatives == ("north east",)


def test_both_prompts_reach_the_model(compass, monkeypatch):
    asked = []
    original = compass.encode

    def spy(*texts, **options):
        asked.append((options["task"], options["prompt"]))
        return original(*texts, **options)

    monkeypatch.setattr(compass, "encode", spy)
    mine(PAIRS, compass)
    mine(PAIRS, compass, prompts=Prompts(query="query: ", passage="passage: "))
    assert sorted(asked[:2]) == [("document", ""), ("query", "")]
    assert sorted(asked[2:]) == [("document", "passage: "), ("query", "query: ")]
