"""The lowest of many tensors together: against sorting them joined, each looked at alone."""

from __future__ import annotations

import random
import weakref
from collections.abc import Mapping

import pytest
import torch

from gaprune.pruning.allocation import keep_masks
from gaprune.util import threshold as module
from gaprune.util.threshold import lowest, lowest_of

TINIEST = 1e-45


def joined(tensors: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    """The first ``count`` of a stable sort of all entries."""
    everything = torch.cat([values.flatten() for values in tensors])
    chosen = torch.zeros(len(everything), dtype=torch.bool)
    chosen[everything.argsort(stable=True)[:count]] = True
    parts = chosen.split([values.numel() for values in tensors])
    return [part.view(values.shape) for part, values in zip(parts, tensors, strict=True)]


def all_reduce_min(tensors: list[torch.Tensor], count: int) -> bool:
    found = list(lowest_of(lambda: iter(tensors), count))
    return len(found) == len(tensors) and all(map(torch.equal, found, joined(tensors, count)))


def draw(seed: int) -> list[torch.Tensor]:
    """Matrices with ties, of either sign and of all sizes that fp32 has."""
    choose = random.Random(seed)  # noqa: S311
    generator = torch.Generator().manual_seed(seed)
    shapes = [(choose.randint(1, 9), choose.choice((1, 2, 7))) for _ in range(choose.randint(1, 6))]
    kinds = (
        lambda shape: torch.randint(-2, 3, shape, generator=generator).float(),
        lambda shape: torch.randn(shape, generator=generator),
        lambda shape: torch.randn(shape, generator=generator) * 10.0 ** choose.randint(-44, 37),
        lambda shape: torch.zeros(shape) * choose.choice((1, -1)),
        lambda shape: torch.full(shape, choose.choice((TINIEST, -TINIEST, 3e38, -3e38))),
    )
    return [choose.choice(kinds)(shape) for shape in shapes]


@pytest.mark.parametrize("seed", range(80))
def test_agrees_with_sorting_everything(seed):
    tensors = draw(seed)
    size = sum(values.numel() for values in tensors)
    for count in {0, 1, size // 3, size // 2, size - 1, size}:
        assert all_reduce_min(tensors, count), count


def test_agrees_across_the_pieces_it_counts_in(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 7)
    tensors = [torch.randint(-3, 4, (11, 5), generator=torch.Generator().manual_seed(1)).float(), torch.randn(40)]
    assert all(all_reduce_min(tensors, count) for count in range(96))


def test_entries_that_differ_in_the_last_bit_are_told_apart():
    start = torch.tensor([1.5, -1.5, 2.0**-130, -(2.0**-130)])
    bits = (start.view(torch.int32)[:, None] + torch.arange(9, dtype=torch.int32).flip(0)).view(torch.float32)
    assert all(all_reduce_min([bits], count) for count in range(37))


def test_the_two_zeros_are_equal_also_across_tensors():
    tensors = [torch.tensor([0.0, -0.0]), torch.tensor([-0.0, 1.0, -1.0])]
    masks = lowest_of(lambda: tensors, 3)
    assert [mask.tolist() for mask in masks] == [[True, True], [False, False, True]]


def test_ties_go_in_the_order_of_the_tensors():
    masks = lowest_of(lambda: [torch.ones(2, 2), torch.ones(3), torch.zeros(1)], 6)
    assert [mask.flatten().tolist() for mask in masks] == [[True] * 4, [True, False, False], [True]]


def test_one_tensor_is_the_same_alone():
    values = torch.randn(13, 17, generator=torch.Generator().manual_seed(2)).T
    assert torch.equal(lowest(values, 100), joined([values], 100)[0])


class PrunedModel(Mapping):
    """Matrices that are made when they are asked for, and counted as long as they live."""

    alive = most = 0

    def __getitem__(self, name):
        values = torch.randn(50, 50, generator=torch.Generator().manual_seed(name))
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(values, self.gone)
        return values

    def gone(self):
        self.alive -= 1

    def __iter__(self):
        return iter(range(8))

    def __len__(self):
        return 8


@pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
def test_no_more_than_one_matrix_and_the_next_are_held(allocation):
    importances = PrunedModel()
    keep = keep_masks(importances, {name: name // 3 for name in range(8)}, sparsity=0.5, allocation=allocation)
    assert sum(int((~mask).sum()) for mask in keep.values()) == 10_000
    assert importances.alive == 0
    assert importances.most <= 2
