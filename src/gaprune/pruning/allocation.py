"""How many weights are pruned, exactly, and where: over all weights, those of a block, a layer, or an output row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.util.tensor_store import shapes_of
from gaprune.util.threshold import lowest_of


def budget(sparsity: float, size: int) -> int:
    """Return how many of ``size`` weights a sparsity removes, to the nearest one."""
    return round(sparsity * size)


def shares(sparsity: float, sizes: Sequence[int]) -> list[int]:
    """Split the budget of all groups over them in proportion to their sizes.

    No group is more than one weight off its own proportion, and together they are exactly the budget of the whole.
    """
    edges = [0, *(budget(sparsity, total) for total in accumulate(sizes))]
    return [after - before for before, after in pairwise(edges)]


def at_least(counts: Sequence[int], least: Sequence[int]) -> list[int]:
    """Return counts of the same sum, none below its least; what they lack is taken one by one where most is to spare.

    Args:
        counts: What every group would lose.
        least: What every group has lost already; together no more than ``counts``.
    """
    found = [max(pair) for pair in zip(counts, least, strict=True)]
    lacking = sum(found) - sum(counts)
    while lacking:
        spare = [index for index, (count, low) in enumerate(zip(found, least, strict=True)) if count > low]
        spare.sort(key=lambda index: least[index] - found[index])
        for index in spare[:lacking]:
            found[index] -= 1
        lacking = max(0, lacking - len(spare))
    return found


def keep_masks(
    importances: Mapping[str, Tensor],
    layers: Mapping[str, int | None],
    *,
    sparsity: float,
    allocation: Allocation,
    previously_kept: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return which weights are kept when the least important are pruned.

    Exactly ``round(sparsity * weights)`` weights are pruned, whatever the allocation and however many are equal.
    ``importances`` may read tensors from a file: each is asked for at most three times, and one is held at a time.

    Args:
        importances: Importance ``(out, in)`` by name of the linear layer, fp32, not NaN; higher is kept.
        layers: Block of each linear layer, for the allocation ``layer`` (those outside the blocks are one group).
        sparsity: Fraction to prune, between 0 and 1.
        allocation: ``global`` compares all weights, ``layer`` those of a block, ``matrix`` those of a linear layer,
            ``row`` those of one output.
        previously_kept: False for weights that an earlier round pruned, ``(out, in)`` by name. They must have the
            lowest importances, and every group prunes at least these.

    Returns:
        True for kept weights, ``(out, in)`` by name.
    """
    shapes = shapes_of(importances)
    if allocation == "row":
        return _by_row(importances, shapes, sparsity, previously_kept)
    groups: dict[object, list[str]] = {}
    for name in importances:
        key = {"global": None, "layer": layers[name], "matrix": name}[allocation]
        groups.setdefault(key, []).append(name)
    counts = shares(sparsity, [sum(shapes[name].numel() for name in names) for names in groups.values()])
    if previously_kept:
        counts = at_least(
            counts, [sum(int((~previously_kept[name]).sum()) for name in names) for names in groups.values()]
        )
    keep: dict[str, Tensor] = {}
    for names, count in zip(groups.values(), counts, strict=True):
        pruned = lowest_of(partial(map, importances.__getitem__, names), count)
        keep |= {name: ~mask for name, mask in zip(names, pruned, strict=True)}
    return {name: keep[name] for name in importances}


def zeros_per_matrix(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return how many weights each linear layer loses under the allocation ``matrix``."""
    return dict(zip(sizes, shares(sparsity, list(sizes.values())), strict=True))


def _by_row(
    importances: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    sparsity: float,
    previously_kept: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    counts = shares(sparsity, [columns for rows, columns in shapes.values() for _ in range(rows)])
    if previously_kept:
        counts = at_least(
            counts, [int(pruned) for name in importances for pruned in (~previously_kept[name]).sum(dim=1)]
        )
    by_layer = torch.split(torch.tensor(counts), [rows for rows, _ in shapes.values()])
    return {
        name: ~_lowest_in_rows(importance, count.to(importance.device))
        for (name, importance), count in zip(importances.items(), by_layer, strict=True)
    }


def _lowest_in_rows(importance: Tensor, counts: Tensor) -> Tensor:
    """Return a mask of the ``counts[r]`` lowest entries of every row ``r``, the first of equals."""
    order = importance.argsort(dim=1, stable=True)
    pruned = torch.arange(importance.shape[1], device=importance.device) < counts[:, None]
    return torch.zeros_like(importance, dtype=torch.bool).scatter_(1, order, pruned)
