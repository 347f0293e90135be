"""The list of triplets itself."""

import pytest

from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError

ITEMS = [Triplet(f"q{number}", "p", ("n",), f"a:{number}") for number in range(5)]


def test_sequence():
    triplets = Triplets(ITEMS, "a")
    assert len(triplets) == 5
    assert list(triplets) == ITEMS
    assert triplets[1].passages == ("p", "n")
    assert list(triplets[1:3]) == ITEMS[1:3]
    assert triplets[1:3].name == "a"
    assert repr(triplets) == "Triplets('a', 5 triplets)"


def test_none_is_an_error():
    with pytest.raises(DataError, match="a: holds no triplet"):
        Triplets([], "a")


def test_fingerprint_is_of_the_texts_in_order():
    first = Triplets(ITEMS, "a")
    same = Triplets([Triplet(item.query, item.positive, item.negatives, "elsewhere") for item in ITEMS], "b")
    assert first.fingerprint == same.fingerprint
    assert first.fingerprint != Triplets(ITEMS[::-1], "a").fingerprint
    assert Triplets([Triplet("a", "b", ("c",))], "").fingerprint != Triplets([Triplet("a", "bc")], "").fingerprint


def test_negatives():
    assert Triplets(ITEMS, "a").have_negatives
    assert not Triplets([*ITEMS, Triplet("q", "p")], "a").have_negatives


def test_take():
    triplets = Triplets(ITEMS, "a")
    assert triplets.take(None, seed=0) is triplets
    taken = triplets.take(3, seed=1)
    assert len(set(taken)) == 3
    assert list(taken) == list(triplets.take(3, seed=1))
    assert any(list(taken) != list(triplets.take(3, seed=seed)) for seed in range(2, 6))
    for count in (0, 6):
        with pytest.raises(ConfigError, match=f"triplets: {count} asked for, a holds 5"):
            triplets.take(count, seed=0)


@pytest.mark.parametrize("broken", [Triplet(" ", "p"), Triplet("q", ""), Triplet("q", "p", ("n", "\t"))])
def test_no_triplet_without_text(broken):
    with pytest.raises(DataError, match=r"^a:6: has an empty text\."):
        Triplets([*ITEMS, broken], "a")
