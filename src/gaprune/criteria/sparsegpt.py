"""SparseGPT: choose and update in one sweep over the columns."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from gaprune.criteria.base import Calibrated, Solution, UpdatingCriterion
from gaprune.criteria.inputs import WeightInputs
from gaprune.criteria.inverse import inverse_factor
from gaprune.criteria.registry import register
from gaprune.statistics.sums import Statistic
from gaprune.util.threshold import check_pattern, lowest, pattern_mask


@register("sparsegpt")
class SparseGPT(Calibrated, UpdatingCriterion):
    """Prunes the weights whose loss the others can compensate best, block of columns by block of columns."""

    summary: ClassVar[str] = "w^2 / [H^-1]: output error after the update of the kept weights, which is applied"
    source: ClassVar[str] = "Frantar and Alistarh 2023 (SparseGPT), arXiv 2301.00774"
    weight_statistics: ClassVar[frozenset[Statistic]] = frozenset({"gram"})

    damping: float = Field(0.01, gt=0, description="Ridge, relative to the mean of the diagonal of H.")
    block: int = Field(128, ge=1, description="Columns whose weights are chosen together.")

    def second_moments(self, inputs: WeightInputs) -> Tensor:
        """Return the second moments of the chosen data."""
        return self.mean(inputs, "gram")

    def importance(self, inputs: WeightInputs) -> Tensor:
        """Return ``w^2 / U_jj^2`` before any update, ``(out, in)``."""
        factor = inverse_factor(self.second_moments(inputs), damping=self.damping, name=inputs.name)
        return (inputs.weight / factor.diagonal()).square()

    def solve(
        self,
        weight: Tensor,
        second_moments: Tensor,
        *,
        zeros: int,
        pattern: tuple[int, int] | None,
        previously_kept: Tensor | None = None,
    ) -> Solution:
        """Run the sweep; every block of columns gets its share of ``zeros``, together exactly that many."""
        if pattern is not None:
            check_pattern(weight.shape[1], pattern, name="the linear layer")
        factor = inverse_factor(second_moments, damping=self.damping, name="the linear layer")
        weight = weight.clone()
        pruned_before = torch.zeros_like(weight, dtype=torch.bool)
        if previously_kept is not None:
            pruned_before = ~previously_kept.to(weight.device)
        keep = torch.ones_like(pruned_before)
        columns = weight.shape[1]
        width = self.block if pattern is None else max(pattern[1], self.block // pattern[1] * pattern[1])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            here, local = slice(start, stop), factor[start:stop, start:stop]
            share = round(zeros * stop / columns) - round(zeros * start / columns)
            block = _Block(weight[:, here], local, pruned_before[:, here])
            errors = block.sweep_pattern(pattern) if pattern else block.sweep(share)
            keep[:, here], weight[:, here] = block.keep, block.weight
            weight[:, stop:] -= errors @ factor[here, stop:]
        return Solution(keep, torch.where(keep, weight, 0))


class _Block:
    """Some columns under the sweep: ``keep`` is the choice, ``weight`` the weights as updated so far.

    Args:
        weight: ``(out, columns)``.
        factor: Their part of the upper Cholesky factor of the inverse second moments, ``(columns, columns)``.
        pruned_before: True for weights that an earlier round pruned, ``(out, columns)``.
    """

    def __init__(self, weight: Tensor, factor: Tensor, pruned_before: Tensor) -> None:
        self.weight = weight.clone()
        self.keep = torch.ones_like(pruned_before)
        self._factor, self._pruned_before = factor, pruned_before
        self._errors = torch.zeros_like(self.weight)

    def sweep(self, zeros: int) -> Tensor:
        """Prune the ``zeros`` weights of least saliency and return the error of every column, ``(out, columns)``."""
        self.keep = ~lowest(self._saliency(slice(None)), zeros)
        for column in range(len(self._factor)):
            self._update(column)
        return self._errors

    def sweep_pattern(self, pattern: tuple[int, int]) -> Tensor:
        """Keep N of every M columns, chosen when the sweep comes to them, and return the error of every column."""
        for column in range(len(self._factor)):
            if column % pattern[1] == 0:
                group = slice(column, column + pattern[1])
                self.keep[:, group] = pattern_mask(self._saliency(group), pattern, name="the linear layer")
            self._update(column)
        return self._errors

    def _saliency(self, columns: slice) -> Tensor:
        """Return the saliency of the weights, lowest for those that an earlier round pruned: updates revive them."""
        saliency = (self.weight[:, columns] / self._factor.diagonal()[columns]).square()
        return saliency.masked_fill(self._pruned_before[:, columns], -1)

    def _update(self, column: int) -> None:
        """Spread the error of the pruned weights of a column over the columns after it."""
        pruned = torch.where(self.keep[:, column], 0, self.weight[:, column])
        self._errors[:, column] = pruned / self._factor[column, column]
        self.weight[:, column:] -= self._errors[:, column, None] * self._factor[column, column:]
