"""Allocations against brute force: each compares only inside its own groups, and the total is exact."""

from __future__ import annotations

import pytest
import torch

from gaprune.pruning.allocation import keep_masks, shares, zeros_per_matrix

SHAPES = {"a": (3, 5), "b": (7, 2), "c": (1, 11), "d": (4, 4), "head": (2, 3)}
LAYERS = {"a": 0, "b": 1, "c": 0, "d": 1, "head": None}
ALLOCATIONS = ("global", "layer", "matrix", "row")
SPARSITIES = (0.03, 1 / 3, 0.5, 0.617, 0.99)
KINDS = ("distinct", "ties", "equal")


def make_importances(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    total = sum(rows * columns for rows, columns in SHAPES.values())
    flat = {
        "distinct": torch.randperm(total, generator=generator).float() - 20,
        "ties": torch.randint(0, 3, (total,), generator=generator).float(),
        "equal": torch.full((total,), 0.25),
    }[kind]
    parts = flat.split([rows * columns for rows, columns in SHAPES.values()])
    return {name: part.view(shape) for (name, shape), part in zip(SHAPES.items(), parts, strict=True)}


def entries(importances: dict[str, torch.Tensor]) -> list[tuple[str, int, int]]:
    return [
        (name, r, c)
        for name, values in importances.items()
        for r in range(len(values))
        for c in range(values.shape[1])
    ]


GROUP_OF = {
    "global": lambda name, row: 0,
    "layer": lambda name, row: LAYERS[name],
    "matrix": lambda name, row: name,
    "row": lambda name, row: (name, row),
}


def brute_force(importances, sparsity, allocation) -> set[tuple[str, int, int]]:
    """What goes: every group sorted on its own, its number from the running total of sizes."""
    groups: dict[object, list[tuple[str, int, int]]] = {}
    for name, row, column in entries(importances):
        groups.setdefault(GROUP_OF[allocation](name, row), []).append((name, row, column))
    gone: set[tuple[str, int, int]] = set()
    seen = 0
    for members in groups.values():
        count = round(sparsity * (seen + len(members))) - round(sparsity * seen)
        seen += len(members)
        ranked = sorted(members, key=lambda at: float(importances[at[0]][at[1], at[2]]))  # stable: first of equals
        gone |= set(ranked[:count])
    return gone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_agrees_with_brute_force(allocation, sparsity, kind):
    importances = make_importances(kind)
    keep = keep_masks(importances, LAYERS, sparsity=sparsity, allocation=allocation)
    assert list(keep) == list(importances)
    for name, mask in keep.items():
        assert mask.dtype == torch.bool
        assert mask.shape == importances[name].shape
    gone = {(name, row, column) for name, row, column in entries(importances) if not keep[name][row, column]}
    assert len(gone) == round(sparsity * len(entries(importances)))
    assert gone == brute_force(importances, sparsity, allocation)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_scale_of_another_group_changes_nothing_inside_a_group(allocation):
    importances = make_importances("distinct")
    before = keep_masks(importances, LAYERS, sparsity=0.5, allocation=allocation)
    scaled = {name: values * (1000 if name == "a" else 1) for name, values in importances.items()}
    after = keep_masks(scaled, LAYERS, sparsity=0.5, allocation=allocation)
    same = {name: torch.equal(before[name], after[name]) for name in importances}
    expected_to_change = {"global": {"a", "b", "c", "d", "head"}, "layer": {"a", "c"}, "matrix": set(), "row": set()}
    assert {name for name, equal in same.items() if not equal} <= expected_to_change[allocation]
    if allocation in ("global", "layer"):
        assert not same["a"]


def test_rows_lose_the_same_number_to_within_one():
    importances = {"a": torch.rand(20, 9, generator=torch.Generator().manual_seed(0))}
    keep = keep_masks(importances, {"a": 0}, sparsity=0.4, allocation="row")["a"]
    assert set((~keep).sum(1).tolist()) <= {3, 4}
    assert int((~keep).sum()) == 72


def test_scaling_a_row_changes_no_row_mask_but_the_matrix_mask():
    values = torch.rand(4, 8, generator=torch.Generator().manual_seed(3)) + 0.1
    scaled = values * torch.tensor([[1.0], [100.0], [0.01], [1.0]])
    masks = {
        allocation: [
            keep_masks({"a": v}, {"a": 0}, sparsity=0.5, allocation=allocation)["a"] for v in (values, scaled)
        ]
        for allocation in ("row", "matrix")
    }
    assert torch.equal(*masks["row"])
    assert not torch.equal(*masks["matrix"])
    assert masks["matrix"][1][1].all()
    assert not masks["matrix"][1][2].any()


def test_matrices_outside_the_blocks_are_one_group():
    importances = {
        "in": torch.tensor([[1.0, 2.0]]),
        "block": torch.tensor([[0.0, 0.1]]),
        "out": torch.tensor([[3.0, 4.0]]),
    }
    keep = keep_masks(importances, {"in": None, "block": 0, "out": None}, sparsity=0.5, allocation="layer")
    assert keep["in"].tolist() == [[False, False]]
    assert keep["block"].tolist() == [[False, True]]
    assert keep["out"].tolist() == [[True, True]]


def test_transposed_importance_is_masked_in_place():
    values = torch.randperm(24, generator=torch.Generator().manual_seed(1)).float().view(6, 4)
    for allocation in ALLOCATIONS:
        plain = keep_masks({"a": values.T.contiguous()}, {"a": 0}, sparsity=0.5, allocation=allocation)["a"]
        view = keep_masks({"a": values.T}, {"a": 0}, sparsity=0.5, allocation=allocation)["a"]
        assert torch.equal(plain, view), allocation


def test_zeros_per_matrix_is_what_the_matrix_allocation_removes():
    importances = make_importances("distinct")
    sizes = {name: values.numel() for name, values in importances.items()}
    for sparsity in SPARSITIES:
        keep = keep_masks(importances, LAYERS, sparsity=sparsity, allocation="matrix")
        assert zeros_per_matrix(sizes, sparsity) == {name: int((~mask).sum()) for name, mask in keep.items()}
    assert list(zeros_per_matrix(sizes, 0.5).values()) == shares(0.5, list(sizes.values()))
