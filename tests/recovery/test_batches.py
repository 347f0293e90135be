"""Which triplets are trained on when, and which are held out."""

from __future__ import annotations

import pytest

from gaprune.data import Triplet, Triplets
from gaprune.errors import ConfigError
from gaprune.recovery import sparsities, steps_of_rounds
from gaprune.recovery.batches import hold_out, plan
from toys import GENERAL


@pytest.mark.parametrize("ratio", [0, 0.1, 0.25, 0.5])
def test_general_triplets_are_counted_exactly(many, ratio):
    batches = plan(many, GENERAL, steps=9, batch_size=6, ratio=ratio, seed=0)
    general = [sum(index >= len(many) for index in batch) for batch in batches]
    assert [len(batch) for batch in batches] == [6] * 9
    assert sum(general) == round(ratio * 54)
    assert max(general) - min(general) <= 1


def test_every_triplet_before_any_again(many):
    batches = plan(many, None, steps=10, batch_size=8, ratio=0, seed=1)
    seen = [index for batch in batches for index in batch]
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen != [index for batch in plan(many, None, steps=10, batch_size=8, ratio=0, seed=2) for index in batch]


def test_no_text_twice_in_a_batch():
    shared = Triplets([Triplet(f"query {i}", f"passage {i % 3}") for i in range(12)], "shared")
    for batch in plan(shared, None, steps=8, batch_size=3, ratio=0, seed=0):
        assert len({shared[index].positive for index in batch}) == 3
    with pytest.raises(
        ConfigError, match=r"^batch_size: shared holds 12 triplets .* too few of different texts for 4"
    ):
        plan(shared, None, steps=1, batch_size=4, ratio=0, seed=0)


def test_what_is_held_out_is_not_trained_on():
    triplets = Triplets([Triplet(f"query {i}", f"passage {i // 2}") for i in range(60)], "pairs")
    rest, held, size = hold_out(triplets, 0.4, most=100, batch_size=9, parts=2, seed=0)
    assert not {item.positive for item in rest} & {item.positive for item in held}
    assert (len(held), size) == (24, 8)
    assert len(rest) == 36
    rest, held, size = hold_out(triplets, 0.4, most=10, batch_size=9, parts=1, seed=0)
    assert (len(rest), len(held), size) == (50, 10, 5)
    pairs = Triplets([Triplet(f"query {i}", f"passage {i}") for i in range(650)], "pairs")
    _, held, size = hold_out(pairs, 0.1, most=512, batch_size=32, parts=1, seed=0)
    assert (len(held), size) == (63, 21), "no batch of a few, which would count as much as a full one"
    with pytest.raises(ConfigError, match=r"^held_out: 0.01 of the 60 triplets of pairs leaves fewer than 4"):
        hold_out(triplets, 0.01, most=100, batch_size=9, parts=2, seed=0)


def test_rounds_end_at_the_budget():
    found = sparsities(0.7, 4)
    assert found[-1] == 0.7
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.7 * (1 - 0.75**3))
    assert sparsities(0.5, 1) == [0.5]
    assert steps_of_rounds(100, 3) == [33, 34, 33]
