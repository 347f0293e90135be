"""Texts of similar length share a forward pass."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from gaprune.statistics.forward import groups_by_length


def cost(groups, lengths, overhead):
    return sum(len(group) * max(lengths[i] for i in group) + overhead for group in groups)


def cheapest(lengths, tokens, overhead):
    """Return the cost of the best of all ways to cut the texts, sorted by length, into groups."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    found = []
    for count in range(len(order)):
        for cuts in combinations(range(1, len(order)), count):
            groups = [order[a:b] for a, b in pairwise([0, *cuts, len(order)])]
            if all(len(group) == 1 or len(group) * lengths[group[-1]] <= tokens for group in groups):
                found.append(cost(groups, lengths, overhead))
    return min(found)


@pytest.mark.parametrize("tokens", [1, 12, 40, 1000])
@pytest.mark.parametrize("overhead", [0, 3, 30])
@pytest.mark.parametrize("lengths", [(5,), (4, 4, 4), (3, 30, 5, 5, 29, 11, 2), (9, 1, 9, 1, 9, 1, 50)])
def test_hardly_any_groups_are_cheaper(lengths, tokens, overhead):
    groups = groups_by_length(lengths, tokens, overhead)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= tokens for group in groups)
    assert cost(groups, lengths, overhead) <= 1.25 * cheapest(lengths, tokens, overhead)


def test_short_texts_are_not_padded_to_long_ones():
    assert groups_by_length([100, 8, 98, 9, 9], 1000, 32) == [[0, 2], [3, 4, 1]]


def test_a_dear_pass_is_shared():
    assert len(groups_by_length([100, 8, 98, 9, 9], 1000, 1024)) == 1


def test_no_texts_make_no_pass():
    assert groups_by_length([], 1000, 32) == []
