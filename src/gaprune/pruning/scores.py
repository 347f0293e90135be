"""Scores: the importance of every selected weight, kept so that any sparsity can be decided later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.criteria.base import UpdatingCriterion, WeightCriterion, for_weights
from gaprune.criteria.registry import create
from gaprune.pruning.allocation import keep_masks, zeros_per_matrix
from gaprune.pruning.scores_file import Header, reading, writing
from gaprune.pruning.zeros import Pruning
from gaprune.util.progress import track
from gaprune.util.tensor_store import shapes_of
from gaprune.util.threshold import check_pattern, pattern_mask


@dataclass(frozen=True)
class Scores:
    """Importance of every selected weight.

    A decision looks at one linear layer at a time. Scores that are read from a file (:meth:`load`) stay in the file,
    which may be larger than memory.

    Args:
        criterion: Name of the criterion.
        options: Its constants.
        importances: ``(out, in)`` fp32 by name of the linear layer, in model order.
        layers: Block of each linear layer, ``None`` outside the blocks.
        second_moments: Of the inputs, ``(in, in)``, if the criterion chooses on them.
        origin: What the scores depend on (fingerprints and options), compared before they are used again.
        previously_kept: False for weights that an earlier round pruned, ``(out, in)`` by name; empty in the first.
    """

    criterion: str
    options: Mapping[str, object]
    importances: Mapping[str, Tensor]
    layers: Mapping[str, int | None]
    second_moments: Mapping[str, Tensor] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    previously_kept: Mapping[str, Tensor] = field(default_factory=dict)

    def decide(
        self,
        weights: Mapping[str, Tensor],
        *,
        sparsity: float,
        allocation: Allocation | None = None,
        pattern: tuple[int, int] | None = None,
    ) -> Pruning:
        """Return which weights are kept, with new values if the criterion updates them.

        Args:
            weights: Weights ``(out, in)`` by name; criteria that swap or update weights read them.
            sparsity: Fraction to remove.
            allocation: Where the budget is compared; ``None`` for the criterion's default.
            pattern: ``(N, M)``, which fixes the sparsity.

        Raises:
            ConfigError: If the criterion cannot work with the allocation, or the pattern does not fit a layer.
        """
        criterion = for_weights(create(self.criterion, self.options), self.criterion)
        if pattern is not None:
            for name, shape in shapes_of(self.importances).items():
                check_pattern(shape[1], pattern, name=name)
        if isinstance(criterion, UpdatingCriterion):
            criterion.check_allocation(self.criterion, allocation)
            return self._solved(criterion, weights, sparsity, pattern)
        if pattern is not None:
            keep = {name: pattern_mask(values, pattern, name=name) for name, values in self.importances.items()}
        else:
            keep = keep_masks(
                self.importances,
                self.layers,
                sparsity=sparsity,
                allocation=allocation or criterion.default_allocation,
                previously_kept=self.previously_kept,
            )
        return Pruning(self._refined(criterion, weights, keep, pattern) if criterion.uses_second_moments else keep)

    def _refined(
        self,
        criterion: WeightCriterion,
        weights: Mapping[str, Tensor],
        keep: Mapping[str, Tensor],
        pattern: tuple[int, int] | None,
    ) -> dict[str, Tensor]:
        refined = {}
        for name, mask in track(keep.items(), f"Refining by swaps ({self.criterion})"):
            weight = weights[name].float()
            before = self.previously_kept.get(name)
            refined[name] = criterion.refine(
                weight,
                self.second_moments[name].to(weight.device),
                mask.to(weight.device),
                previously_kept=None if before is None else before.to(weight.device),
                pattern=pattern,
            )
        return refined

    def _solved(
        self,
        criterion: UpdatingCriterion,
        weights: Mapping[str, Tensor],
        sparsity: float,
        pattern: tuple[int, int] | None,
    ) -> Pruning:
        sizes = {name: shape.numel() for name, shape in shapes_of(self.importances).items()}
        zeros = zeros_per_matrix(sizes, sparsity)
        keep, updated = {}, {}
        for name in track(list(sizes), f"Updating weights ({self.criterion})"):
            solution = criterion.solve(
                weights[name].float(),
                self.second_moments[name].to(weights[name].device),
                zeros=zeros[name],
                pattern=pattern,
                previously_kept=self.previously_kept.get(name),
            )
            keep[name], updated[name] = solution.keep, solution.weight.to(weights[name].dtype)
        return Pruning(keep, updated)

    def after(self, previously_kept: Mapping[str, Tensor]) -> Self:
        """Return the same scores for a later round: weights that are pruned already come first."""
        importances = _PrunedFirst(self.importances, previously_kept)
        return replace(self, importances=importances, previously_kept=previously_kept)

    def save(self, path: str | Path) -> None:
        """Write the scores as safetensors; the file takes its name when it is complete.

        Raises:
            OutputError: If the file cannot be written.
        """
        header = Header(self.criterion, self.options, self.layers, self.origin)
        shapes = shapes_of(self.importances)
        with writing(Path(path), header, shapes, with_second_moments=bool(self.second_moments)) as write:
            for name, values in self.importances.items():
                write(name, values, self.second_moments.get(name))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open scores that were written to a file; each linear layer is read when it is asked for.

        Raises:
            ConfigError: If the file is missing, damaged or not a scores file.
        """
        header, importances, second_moments = reading(Path(path))
        return cls(header.criterion, header.options, importances, header.layers, second_moments, header.origin)


class _PrunedFirst(Mapping[str, Tensor]):
    """Importances in which weights that were pruned before are below all others."""

    def __init__(self, importances: Mapping[str, Tensor], previously_kept: Mapping[str, Tensor]) -> None:
        self._importances = importances
        self._previously_kept = previously_kept
        self.shapes = shapes_of(importances)

    def __getitem__(self, name: str) -> Tensor:
        values = self._importances[name]
        return values.masked_fill(~self._previously_kept[name].to(values.device), -torch.inf)

    def __iter__(self) -> Iterator[str]:
        return iter(self._importances)

    def __len__(self) -> int:
        return len(self._importances)
