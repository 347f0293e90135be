"""Scores: what a criterion says of every weight, kept so that any budget can be asked of it later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.criteria.base import UpdatingCriterion, WeightCriterion, for_weights
from gaprune.criteria.inputs import WeightInputs
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.linear_layers import LinearLayer
from gaprune.pruning.allocation import keep_masks, zeros_per_matrix
from gaprune.pruning.scores_file import Header, StorageType, reading, writing
from gaprune.pruning.zeros import Pruning
from gaprune.statistics.sums import Statistics
from gaprune.util.pattern import pattern_mask
from gaprune.util.progress import track

__all__ = ["Scores", "StorageType", "score", "writing_scores"]


@dataclass(frozen=True)
class Scores:
    """Importance of every selected weight.

    Whatever is asked looks at one matrix at a time, so that scores read from a file (:meth:`load`) may be larger than
    memory; their importances stay in the file.

    Args:
        criterion: Name of the criterion.
        options: Its constants.
        importances: ``(out, in)`` fp32 by name of the matrix, in model order.
        layers: Block of each matrix, ``None`` outside the blocks.
        grams: Input second moments ``(in, in)`` where the criterion chooses on them.
        origin: What they depend on (fingerprints and options), compared before scores are reused.
        keep: True for weights that are there yet, ``(out, in)`` by name; empty where none went before.
    """

    criterion: str
    options: Mapping[str, object]
    importances: Mapping[str, Tensor]
    layers: Mapping[str, int | None]
    grams: Mapping[str, Tensor] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    keep: Mapping[str, Tensor] = field(default_factory=dict)

    def mask(self, *, sparsity: float, allocation: Allocation | None = None) -> dict[str, Tensor]:
        """Return which weights stay at a sparsity; true stays.

        Raises:
            ConfigError: If the criterion looks at the weights too, so that only :meth:`decide` knows.
        """
        criterion = self._criterion()
        if criterion.uses_second_moments:
            raise ConfigError(f"{self.criterion} chooses by the weights too.", "Ask Scores.decide instead.")
        return self._lowest(criterion, sparsity, allocation)

    def _criterion(self) -> WeightCriterion:
        return for_weights(create(self.criterion, self.options), self.criterion)

    def _lowest(self, criterion: WeightCriterion, sparsity: float, allocation: Allocation | None) -> dict[str, Tensor]:
        chosen = allocation or criterion.default_allocation
        return keep_masks(
            self.importances, self.layers, sparsity=sparsity, allocation=chosen, before=self.keep or None
        )

    def decide(
        self,
        weights: Mapping[str, Tensor],
        *,
        sparsity: float,
        allocation: Allocation | None = None,
        pattern: tuple[int, int] | None = None,
    ) -> Pruning:
        """Return what goes at a sparsity or in an N:M pattern, with updated weights where the criterion has them.

        Args:
            weights: Weights ``(out, in)`` by name; read by criteria that update them or see a choice as a whole.
            sparsity: Fraction to remove.
            allocation: Where the budget is compared; the criterion's default for ``None``.
            pattern: ``(N, M)``, which fixes the sparsity.

        Raises:
            ConfigError: If the criterion cannot work with the allocation, or the pattern does not fit a width.
        """
        criterion = self._criterion()
        if isinstance(criterion, UpdatingCriterion):
            criterion.check_allocation(self.criterion, allocation)
            return self._reconstruct(criterion, weights, sparsity, pattern)
        if pattern is not None:
            keep = {name: pattern_mask(values, pattern, name=name) for name, values in self.importances.items()}
        else:
            keep = self._lowest(criterion, sparsity, allocation)
        if criterion.uses_second_moments:
            for name in track(list(keep), f"Exchanging weights ({self.criterion})"):
                weight = weights[name].float()
                there = self.keep.get(name)
                keep[name] = criterion.refine(
                    weight,
                    self.grams[name].to(weight.device),
                    keep[name].to(weight.device),
                    previously_kept=None if there is None else there.to(weight.device),
                    pattern=pattern,
                )
        return Pruning(keep)

    def _reconstruct(
        self,
        criterion: UpdatingCriterion,
        weights: Mapping[str, Tensor],
        sparsity: float,
        pattern: tuple[int, int] | None,
    ) -> Pruning:
        zeros = zeros_per_matrix({name: values.numel() for name, values in self.importances.items()}, sparsity)
        keep, updated = {}, {}
        for name in track(list(self.importances), f"Updating weights ({self.criterion})"):
            if pattern is not None:
                pattern_mask(self.importances[name], pattern, name=name)  # refuses widths that do not divide
            solution = criterion.solve(
                weights[name].float(),
                self.grams[name].to(weights[name].device),
                zeros=zeros[name],
                pattern=pattern,
                previously_kept=self.keep.get(name),
            )
            keep[name], updated[name] = solution.keep, solution.weight.to(weights[name].dtype)
        return Pruning(keep, updated)

    def below(self, keep: Mapping[str, Tensor]) -> Self:
        """Return the same scores with the weights that do not stay in ``keep`` below all others: they go first."""
        return replace(self, importances=_Pressed(self.importances, keep), keep=keep)

    def save(self, path: str | Path, *, storage: StorageType = "float32") -> None:
        """Write the scores as safetensors, moved into place when complete.

        ``bfloat16`` halves the importances (Gram matrices stay in fp32); each matrix is scaled to a maximum of one, so
        nothing underflows unseen.

        Raises:
            OutputError: If the file cannot be written.
            SignalError: If a score would become zero in ``bfloat16``.
        """
        shapes = {name: values.shape for name, values in self.importances.items()}
        header = Header(self.criterion, self.options, self.layers, self.origin)
        with writing(Path(path), header, shapes, with_grams=bool(self.grams), storage=storage) as write:
            for name, values in self.importances.items():
                write(name, values, self.grams.get(name))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open scores written by :meth:`save` or :func:`writing_scores`; matrices are read when they are asked for.

        Raises:
            ConfigError: If the file is missing, broken or no scores file.
        """
        header, importances, grams = reading(Path(path))
        return cls(header.criterion, header.options, importances, header.layers, grams, header.origin)


class _Pressed(Mapping[str, Tensor]):
    """Importances with the weights that went before below all others, made one matrix at a time when asked for."""

    def __init__(self, importances: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> None:
        self._importances = importances
        self._keep = keep
        self._floor = min(-1.0, *(2 * float(importances[name].min()) for name in importances))

    def __getitem__(self, name: str) -> Tensor:
        values = self._importances[name]
        return values.masked_fill(~self._keep[name].to(values.device), self._floor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._importances)

    def __len__(self) -> int:
        return len(self._importances)


def score(
    linear_layers: Sequence[LinearLayer],
    criterion: WeightCriterion,
    name: str,
    *,
    domain: Statistics | None,
    general: Statistics | None,
    seed: int,
    origin: Mapping[str, object] | None = None,
) -> Scores:
    """Apply a criterion to every matrix and hold the scores in memory.

    Raises:
        SignalError: If a weight or an importance is not finite; it names the matrix.
    """
    importances, grams = {}, {}
    for matrix in linear_layers:
        importances[matrix.name], gram = _score(matrix, criterion, name, domain, general, seed)
        if gram is not None:
            grams[matrix.name] = gram
    return Scores(
        criterion=name,
        options=criterion.model_dump(),
        importances=importances,
        layers={matrix.name: matrix.layer for matrix in linear_layers},
        grams=grams,
        origin=origin or {},
    )


@contextmanager
def writing_scores(
    path: str | Path,
    linear_layers: Sequence[LinearLayer],
    criterion: WeightCriterion,
    name: str,
    *,
    seed: int,
    origin: Mapping[str, object] | None = None,
    storage: StorageType = "float32",
) -> Iterator[Callable[[Sequence[LinearLayer], Statistics | None, Statistics | None], None]]:
    """Write the scores of ``linear_layers`` to a file group by group, as their signals are measured.

    No more than the importance of one matrix is in memory. The file takes its name at the end of the block, when the
    groups were all of ``linear_layers``; :meth:`Scores.load` opens it.

    Yields:
        The function that scores a group of the matrices by its signals on domain and on general data and writes it;
        the signals can be let go after it.

    Raises:
        OutputError: If the file cannot be written, or the disk has no room for it, which is found before the block.
        SignalError: If a weight or an importance is not finite, or would become zero in ``bfloat16``.
    """
    layers = {matrix.name: matrix.layer for matrix in linear_layers}
    header = Header(name, criterion.model_dump(), layers, origin or {})
    shapes = {matrix.name: matrix.module.weight.shape for matrix in linear_layers}
    with_grams = criterion.uses_second_moments
    with writing(Path(path), header, shapes, with_grams=with_grams, storage=storage) as write:

        def add(group: Sequence[LinearLayer], domain: Statistics | None, general: Statistics | None) -> None:
            for matrix in track(group, f"Scoring ({name})"):
                write(matrix.name, *_score(matrix, criterion, name, domain, general, seed))

        yield add


def _score(
    matrix: LinearLayer,
    criterion: WeightCriterion,
    name: str,
    domain: Statistics | None,
    general: Statistics | None,
    seed: int,
) -> tuple[Tensor, Tensor | None]:
    """Return the importance of a matrix, and the second moments of its inputs where the criterion chooses on them."""
    evidence = WeightInputs(
        name=matrix.name,
        weight=matrix.module.weight.detach().float(),
        domain=None if domain is None else domain[matrix.name],
        general=None if general is None else general[matrix.name],
        seed=seed,
        writes_residual=matrix.writes_residual,
    )
    values = criterion.importance(evidence).float()
    if not torch.isfinite(values).all():
        raise MeasurementError(
            f"{matrix.name}: the importance ({name}) is not finite; "
            + ("the weight is." if torch.isfinite(evidence.weight).all() else "nor is the weight."),
            f"Check the model, or leave the layer out: --ignore {matrix.name}",
        )
    return values, criterion.second_moments(evidence) if criterion.uses_second_moments else None
