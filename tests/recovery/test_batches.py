"""Which triplets are trained on when, and which are held out."""

from __future__ import annotations

import pytest

from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError
from gaprune.recovery.batches import hold_out, in_batches, plan
from gaprune.recovery.rounds import plan_rounds
from toys import GENERAL


@pytest.mark.parametrize("ratio", [0, 0.1, 0.25, 0.5])
def test_general_triplets_are_counted_exactly(many, ratio):
    batches = plan(many, GENERAL, steps=9, batch_size=6, general_share=ratio, negatives=0, seed=0)
    general = [sum(index >= len(many) for index in batch) for batch in batches]
    assert [len(batch) for batch in batches] == [6] * 9
    assert sum(general) == round(ratio * 54)
    assert max(general) - min(general) <= 1


def test_every_triplet_before_any_again(many):
    batches = plan(many, None, steps=10, batch_size=8, general_share=0, negatives=0, seed=1)
    seen = [index for batch in batches for index in batch]
    assert sorted(seen[:40]) == sorted(seen[40:]) == list(range(40))
    assert seen != [
        index
        for batch in plan(many, None, steps=10, batch_size=8, general_share=0, negatives=0, seed=2)
        for index in batch
    ]


def test_no_text_twice_in_a_batch():
    shared = Triplets([Triplet(f"query {i}", f"passage {i % 3}") for i in range(12)], "shared")
    for batch in plan(shared, None, steps=8, batch_size=3, general_share=0, negatives=0, seed=0):
        assert len({shared[index].positive for index in batch}) == 3
    with pytest.raises(
        ConfigError, match=r"^batch_size: shared holds 12 triplets .* too few of different texts for 4"
    ):
        plan(shared, None, steps=1, batch_size=4, general_share=0, negatives=0, seed=0)


def test_of_many_with_one_answer_each_is_trained_on_as_often():
    """A batch takes one of them, so they wait; one that waits is not put behind itself once more."""
    tickets = Triplets([Triplet(f"query {i}", "standard" if i < 8 else f"passage {i}") for i in range(16)], "tickets")
    batches = plan(tickets, None, steps=40, batch_size=4, general_share=0, negatives=0, seed=0)
    seen = [index for batch in batches for index in batch]
    assert {sum(index < 8 for index in batch) for batch in batches} == {1}
    for some in (range(8), range(8, 16)):
        counts = [seen.count(index) for index in some]
        assert max(counts) - min(counts) <= 2


def test_negatives_count_where_they_are_trained_on():
    common = Triplets([Triplet(f"query {i}", f"passage {i}", ("of all", f"own {i}")) for i in range(12)], "common")
    (batch,) = plan(common, None, steps=1, batch_size=12, general_share=0, negatives=0, seed=0)
    assert sorted(batch) == list(range(12))
    assert in_batches(common, batch_size=12, processes=1, negatives=0)[1] == 12
    with pytest.raises(ConfigError, match=r"too few of different texts for 2"):
        plan(common, None, steps=1, batch_size=2, general_share=0, negatives=1, seed=0)
    with pytest.raises(ConfigError, match=r"^held_out: the 12 triplets held out of common have too few different"):
        in_batches(common, batch_size=12, processes=1, negatives=1)


def held_out(triplets, fraction, *, most, batch_size, processes):
    """Return what is trained on, what is looked at, and in batches of which size."""
    rest, held = hold_out(triplets, fraction, most=most, least=2 * processes, seed=0)
    looked_at, size = in_batches(held, batch_size=batch_size, processes=processes, negatives=0)
    assert {item.query for item in looked_at} <= {item.query for item in held}
    assert not {item.positive for item in rest} & {item.positive for item in held}
    for start in range(0, len(looked_at), size):
        batch = looked_at[start : start + size]
        assert len({text for item in batch for text in (item.query, item.positive)}) == 2 * size
    return rest, looked_at, size


def test_what_is_held_out_is_not_trained_on():
    triplets = Triplets([Triplet(f"query {i}", f"passage {i // 2}") for i in range(60)], "pairs")
    rest, looked_at, size = held_out(triplets, 0.4, most=100, batch_size=9, processes=2)
    assert (len(rest), len(looked_at), size) == (36, 24, 8)
    rest, looked_at, size = held_out(triplets, 0.4, most=10, batch_size=9, processes=1)
    assert (len(rest), len(looked_at), size) == (50, 10, 5)
    pairs = Triplets([Triplet(f"query {i}", f"passage {i}") for i in range(650)], "pairs")
    _, looked_at, size = held_out(pairs, 0.1, most=512, batch_size=32, processes=1)
    assert (len(looked_at), size) == (63, 21), "no batch of a few, which would count as much as a full one"
    with pytest.raises(ConfigError, match=r"^held_out: 0.01 of the 60 triplets of pairs leaves fewer than 4"):
        held_out(triplets, 0.01, most=100, batch_size=9, processes=2)


def test_four_queries_of_one_answer_are_looked_at_apart():
    triplets = Triplets([Triplet(f"query {i}", f"passage {i // 4}") for i in range(64)], "faq")
    rest, looked_at, size = held_out(triplets, 0.25, most=100, batch_size=32, processes=1)
    assert (len(rest), len(looked_at), size) == (48, 16, 4)


@pytest.mark.parametrize(
    ("groups", "batch_size", "looked_at", "size"),
    [
        ([100] * 3 + [5] * 20 + [1] * 12, 32, 222, 6),
        ([200] + [1] * 31, 32, 62, 2),
        ([2] * 20, 32, 40, 20),
        ([1] * 7, 3, 6, 2),
    ],
    ids=str,
)
def test_few_answers_of_many_queries(groups, batch_size, looked_at, size):
    answers = [number for number, queries in enumerate(groups) for _ in range(queries)]
    triplets = Triplets([Triplet(f"query {i}", f"passage {answer}") for i, answer in enumerate(answers)], "faq")
    found, of = in_batches(triplets, batch_size=batch_size, processes=1, negatives=0)
    assert (len(found), of) == (looked_at, size)
    for start in range(0, len(found), of):
        assert len({item.positive for item in found[start : start + of]}) == of


def test_rounds_end_at_the_budget():
    found = [each.sparsity for each in plan_rounds(0.7, 4, 4)]
    assert found[-1] == 0.7
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.7 * (1 - 0.75**3))
    assert [each.sparsity for each in plan_rounds(0.5, 9, 1)] == [0.5]
    assert [(each.number, each.count, each.steps) for each in plan_rounds(0.5, 100, 3)] == [
        (0, 3, 33), (1, 3, 34), (2, 3, 33),
    ]  # fmt: skip
