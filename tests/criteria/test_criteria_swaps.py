"""Exchanges against brute force: what a row loses when all that goes is gone together."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from gaprune.criteria.swaps import greedy_order, refine_by_swaps
from plain_loop import joint_loss


def drawn(seed, rows, columns):
    """Weights, second moments of inputs that go up and down together, and a choice by the diagonal alone."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, columns, generator=draw) @ torch.randn(columns, columns, generator=draw)
    weight, gram = torch.randn(rows, columns, generator=draw), inputs.T @ inputs / 200
    return weight, gram


def by_diagonal(weight, gram, count):
    order = (weight.square() * gram.diagonal()).argsort(1)
    return torch.ones_like(weight, dtype=torch.bool).scatter_(1, order[:, :count], False)


def loss(weight, gram, gone):
    """``w_R A_RR w_R`` of one row."""
    gone = list(gone)
    return float(weight[gone].double() @ gram[gone][:, gone].double() @ weight[gone].double())


def test_the_joint_loss_is_what_the_output_loses():
    weight, gram = drawn(0, 3, 8)
    keep = by_diagonal(weight, gram, 4)
    expected = [loss(row, gram, (~stays).nonzero()[:, 0].tolist()) for row, stays in zip(weight, keep, strict=True)]
    torch.testing.assert_close(joint_loss(weight, gram, keep).double(), torch.tensor(expected).double())


@pytest.mark.parametrize("seed", range(6))
def test_no_exchange_by_its_own_rule_is_left(seed):
    """Neither the best that can come back nor the cheapest that can go wins anything with the best mate for it."""
    weight, gram = drawn(seed, 40, 16)
    before = by_diagonal(weight, gram, 7)
    after = refine_by_swaps(weight, gram, before)
    assert (after.sum(1) == before.sum(1)).all()
    start, end = joint_loss(weight, gram, before), joint_loss(weight, gram, after)
    assert (end <= start * (1 + 1e-5)).all()
    assert float(end.sum()) < 0.8 * float(start.sum())
    for row, stays in zip(weight, after, strict=True):
        gone = set((~stays).nonzero()[:, 0].tolist())
        stay = set(range(16)) - gone
        comes = min(gone, key=lambda column: loss(row, gram, gone - {column}))
        goes = min(stay, key=lambda column: loss(row, gram, gone | {column}))
        best = min(
            *(loss(row, gram, gone - {comes} | {mate}) for mate in stay),
            *(loss(row, gram, gone - {mate} | {goes}) for mate in gone),
        )
        assert best >= loss(row, gram, gone) - 1e-3 * loss(row, gram, gone | {goes})


def test_no_exchange_by_its_own_rule_is_left_in_long_rows():
    weight, gram = drawn(9, 12, 128)
    keep = refine_by_swaps(weight, gram, by_diagonal(weight, gram, 50))
    weight, gram = weight.double(), gram.double()
    flip = torch.where(keep, weight, -weight)
    alone = weight.square() * gram.diagonal()
    single = alone + 2 * flip * (torch.where(keep, 0, weight) @ gram)
    pair = single[:, :, None] + single[:, None] + 2 * flip[:, :, None] * flip[:, None] * gram
    comes, goes = single.masked_fill(keep, torch.inf).argmin(1), single.masked_fill(~keep, torch.inf).argmin(1)
    for row, stays in enumerate(keep):
        best = min(pair[row, comes[row], stays].min(), pair[row, ~stays, goes[row]].min())
        assert best >= -1e-3 * alone[row].mean()


def test_it_comes_near_the_best_of_all_choices():
    weight, gram = drawn(7, 60, 10)
    after = joint_loss(weight, gram, refine_by_swaps(weight, gram, by_diagonal(weight, gram, 5)))
    best = torch.tensor([min(loss(row, gram, gone) for gone in combinations(range(10), 5)) for row in weight])
    before = joint_loss(weight, gram, by_diagonal(weight, gram, 5))
    assert (after >= best - 1e-4).all()
    assert float(after.sum() - best.sum()) < 0.25 * float(before.sum() - best.sum())


def test_two_that_cancel_go_instead_of_two_that_are_small_alone():
    weight = torch.tensor([[1.0, 1.0, 0.5]])
    inputs = torch.tensor([[3.0, -3.0, 1.0], [-3.0, 3.0, 1.0]])
    gram = inputs.T @ inputs / 2
    keep = by_diagonal(weight, gram, 2)
    assert not keep[0, 2]
    assert refine_by_swaps(weight, gram, keep).tolist() == [[False, False, True]]


def test_inputs_that_do_not_go_together_leave_the_diagonals_choice():
    weight, gram = drawn(3, 20, 12)
    diagonal = gram.diagonal().diag()
    keep = by_diagonal(weight, diagonal, 5)
    assert torch.equal(refine_by_swaps(weight, diagonal, keep), keep)


@pytest.mark.parametrize(("group", "stays"), [(4, 2), (2, 1), (8, 3)])
def test_groups_keep_their_counts(group, stays):
    weight, gram = drawn(1, 30, 16)
    order = (weight.square() * gram.diagonal()).view(30, -1, group).argsort(2)
    before = torch.ones(30, 16 // group, group, dtype=torch.bool).scatter_(2, order[:, :, : group - stays], False)
    after = refine_by_swaps(weight, gram, before.view(30, 16), group=group)
    assert (after.view(30, -1, group).sum(2) == stays).all()
    start, end = joint_loss(weight, gram, before.view(30, 16)), joint_loss(weight, gram, after)
    assert (end <= start * (1 + 1e-5)).all()
    assert float(end.sum()) < 0.9 * float(start.sum())
    assert torch.equal(
        refine_by_swaps(weight, gram, before.view(30, 16), group=16),
        refine_by_swaps(weight, gram, before.view(30, 16)),
    )


def test_what_went_before_does_not_come_back():
    weight, gram = drawn(2, 30, 16)
    there = torch.rand(30, 16, generator=torch.Generator().manual_seed(0)) > 0.2
    keep = by_diagonal(torch.where(there, weight, 0), gram, 8)
    after = refine_by_swaps(weight, gram, keep, previously_kept=there)
    assert not (after & ~there).any()
    assert (after.sum(1) == keep.sum(1)).all()
    assert (refine_by_swaps(weight, gram, keep) & ~there).any()


def test_a_limit_takes_the_best_exchanges_first():
    weight, gram = drawn(8, 40, 16)
    keep = by_diagonal(weight, gram, 8)
    losses = [joint_loss(weight, gram, refine_by_swaps(weight, gram, keep, limit=limit)) for limit in (0, 1, 2, 16)]
    assert torch.equal(losses[0], joint_loss(weight, gram, keep))
    assert all((later <= sooner * (1 + 1e-5)).all() for sooner, later in pairwise(losses))
    once = refine_by_swaps(weight, gram, keep, limit=1)
    assert ((once ^ keep).sum(1) <= 2).all()
    assert (once ^ keep).any()


@pytest.mark.parametrize("count", [0, 16])
def test_nothing_to_exchange(count):
    weight, gram = drawn(4, 5, 16)
    keep = by_diagonal(weight, gram, count)
    assert torch.equal(refine_by_swaps(weight, gram, keep), keep)


def test_rows_are_independent_and_the_arguments_untouched(monkeypatch):
    weight, gram = drawn(5, 50, 16)
    keep = by_diagonal(weight, gram, 8)
    copies = weight.clone(), gram.clone(), keep.clone()
    whole = refine_by_swaps(weight, gram, keep)
    monkeypatch.setattr("gaprune.criteria.swaps._CPU_PIECE", 16 * 7)
    assert torch.equal(refine_by_swaps(weight, gram, keep), whole)
    assert all(map(torch.equal, (weight, gram, keep), copies))


def test_the_scale_of_the_moments_does_not_matter():
    weight, gram = drawn(6, 20, 16)
    keep = by_diagonal(weight, gram, 8)
    assert torch.equal(refine_by_swaps(weight, gram * 2.0**-40, keep), refine_by_swaps(weight, gram, keep))


def test_removal_order_is_greedy():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 9, generator=draw)
    cost = rows.T @ rows
    gone: list[int] = []
    while len(gone) < 9:
        left = [unit for unit in range(9) if unit not in gone]
        gone.append(min(left, key=lambda unit: float(cost[[*gone, unit]][:, [*gone, unit]].sum())))
    assert [gone.index(unit) for unit in range(9)] == greedy_order(cost).tolist()
