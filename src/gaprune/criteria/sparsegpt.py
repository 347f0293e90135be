"""SparseGPT: choose and update in one sweep over the columns."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from gaprune.criteria.base import Calibrated, Solution, UpdatingCriterion, WeightInputs
from gaprune.criteria.inverse import inverse_factor
from gaprune.criteria.registry import register
from gaprune.pruning.pattern import check_pattern, pattern_mask
from gaprune.pruning.threshold import lowest
from gaprune.statistics.sums import Statistic

__all__ = ["SparseGPT"]


@register("sparsegpt")
class SparseGPT(Calibrated, UpdatingCriterion):
    """Removes the weights whose loss the others can best make up for, column block by column block."""

    summary: ClassVar[str] = "w^2 / [H^-1]: output error after the others are updated, which they are"
    source: ClassVar[str] = "Frantar and Alistarh 2023 (SparseGPT), arXiv 2301.00774"
    quantities: ClassVar[frozenset[Statistic]] = frozenset({"gram"})

    damping: float = Field(0.01, gt=0, description="Ridge, as a fraction of the mean diagonal of H.")
    block: int = Field(128, ge=1, description="Columns whose weights are chosen together.")

    def gram(self, evidence: WeightInputs) -> Tensor:
        """Return the second moments of the data this criterion looks at."""
        return self.mean(evidence, "gram")

    def importance(self, evidence: WeightInputs) -> Tensor:
        """Return ``w^2 / U_jj^2`` before any update, ``(out, in)``."""
        factor = inverse_factor(self.gram(evidence), damping=self.damping, name=evidence.name)
        return (evidence.weight / factor.diagonal()).square()

    def solve(
        self,
        weight: Tensor,
        gram: Tensor,
        *,
        zeros: int,
        pattern: tuple[int, int] | None,
        keep: Tensor | None = None,
    ) -> Solution:
        """Run the sweep; every block of columns gives its share of ``zeros``, together exactly that many."""
        if pattern is not None:
            check_pattern(weight.shape[1], pattern, name="the matrix")
        factor = inverse_factor(gram, damping=self.damping, name="the matrix")
        weight = weight.clone()
        there = torch.ones_like(weight, dtype=torch.bool) if keep is None else keep.to(weight.device)
        keep = torch.ones_like(there)
        columns = weight.shape[1]
        width = self.block if pattern is None else max(pattern[1], self.block // pattern[1] * pattern[1])
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            block, local = weight[:, start:stop].clone(), factor[start:stop, start:stop]
            saliency = _pressed((block / local.diagonal()).square(), there[:, start:stop])
            if pattern is None:
                share = round(zeros * stop / columns) - round(zeros * start / columns)
                keep[:, start:stop] = ~lowest(saliency, share)
            errors = torch.zeros_like(block)
            for column in range(stop - start):
                if pattern is not None and column % pattern[1] == 0:
                    group = slice(column, column + pattern[1])
                    fresh = _pressed(
                        (block[:, group] / local.diagonal()[group]).square(), there[:, start:stop][:, group]
                    )
                    keep[:, start:stop][:, group] = pattern_mask(fresh, pattern, name="the matrix")
                removed = ~keep[:, start + column]
                errors[:, column] = torch.where(removed, block[:, column], 0) / local[column, column]
                block[:, column:] -= errors[:, column, None] * local[column, column:]
            weight[:, start:stop] = block
            weight[:, stop:] -= errors @ factor[start:stop, stop:]
        return Solution(keep, torch.where(keep, weight, 0))


def _pressed(saliency: Tensor, there: Tensor) -> Tensor:
    """Return the saliency with weights that went before below all others, which updates give values again."""
    return saliency.masked_fill(~there, -1)
