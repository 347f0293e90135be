"""Where the budget is compared: over everything, a layer, a matrix or a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.pruning.budget import at_least, shares
from gaprune.util.tensor_store import shapes_of
from gaprune.util.threshold import lowest_of

__all__ = ["keep_masks", "zeros_per_matrix"]


def keep_masks(
    importances: Mapping[str, Tensor],
    layers: Mapping[str, int | None],
    *,
    sparsity: float,
    allocation: Allocation,
    before: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return which weights stay when the least important go.

    The number that goes over all matrices is exactly ``round(sparsity * weights)``, whatever the allocation and
    however many are equal. Beside the masks no more than one matrix is held at a time, so ``importances`` may read
    each from a file when it is asked for.

    Args:
        importances: Importance ``(out, in)`` by name of the matrix, fp32, finite; higher stays.
        layers: Block of each matrix, for the allocation ``layer`` (matrices outside the blocks are one group).
        sparsity: Fraction to remove, between 0 and 1.
        allocation: ``global`` compares all weights, ``layer`` those of a block, ``matrix`` those of a matrix,
            ``row`` those that feed one output.
        before: True for weights that are there yet, ``(out, in)`` by name, where some went before: no group gets any
            of them back for the rounding of its share. Their importance has to be the lowest.

    Returns:
        True for weights that stay, ``(out, in)`` by name.
    """
    shapes = shapes_of(importances)
    if allocation == "row":
        widths = [columns for rows, columns in shapes.values() for _ in range(rows)]
        goes = shares(sparsity, widths)
        if before:
            goes = at_least(goes, [int(lost) for name in importances for lost in (~before[name]).sum(dim=1)])
        counts = torch.split(torch.tensor(goes), [rows for rows, _ in shapes.values()])
        return {
            name: ~_lowest_in_rows(importance, count.to(importance.device))
            for (name, importance), count in zip(importances.items(), counts, strict=True)
        }
    groups: dict[object, list[str]] = {}
    for name in importances:
        key = {"global": None, "layer": layers[name], "matrix": name}[allocation]
        groups.setdefault(key, []).append(name)
    sizes = [sum(shapes[name].numel() for name in names) for names in groups.values()]
    goes = shares(sparsity, sizes)
    if before:
        goes = at_least(goes, [sum(int((~before[name]).sum()) for name in names) for names in groups.values()])
    keep: dict[str, Tensor] = {}
    for names, count in zip(groups.values(), goes, strict=True):
        removed = lowest_of(partial(_each, importances, names), count)
        keep |= {name: ~mask for name, mask in zip(names, removed, strict=True)}
    return {name: keep[name] for name in importances}


def zeros_per_matrix(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """Return how many weights each matrix loses under the allocation ``matrix``."""
    return dict(zip(sizes, shares(sparsity, list(sizes.values())), strict=True))


def _each(importances: Mapping[str, Tensor], names: Sequence[str]) -> Iterator[Tensor]:
    return (importances[name] for name in names)


def _lowest_in_rows(importance: Tensor, counts: Tensor) -> Tensor:
    """Return a mask of the ``counts[r]`` lowest entries of every row ``r``, the first of equals."""
    order = importance.argsort(dim=1, stable=True)
    goes = torch.arange(importance.shape[1], device=importance.device) < counts[:, None]
    return torch.zeros_like(importance, dtype=torch.bool).scatter_(1, order, goes)
