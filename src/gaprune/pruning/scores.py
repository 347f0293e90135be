"""Scores: the importance of every selected weight, kept so that any sparsity can be decided later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gaprune.config.recipe import Allocation
from gaprune.criteria.base import UpdatingCriterion, WeightCriterion, for_weights
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError
from gaprune.pruning.allocation import keep_masks, zeros_per_matrix
from gaprune.pruning.zeros import Pruning
from gaprune.util.progress import track
from gaprune.util.tensor_store import StoredTensors, shapes_of, writing_tensors
from gaprune.util.threshold import check_pattern, pattern_mask

_FORMAT = "gaprune-scores-3"


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

    @contextmanager
    def writing(
        self, path: Path, shapes: Mapping[str, Sequence[int]], *, with_second_moments: bool
    ) -> Iterator[Callable[[str, Tensor, Tensor | None], None]]:
        """Write scores as safetensors layer by layer; the file takes its name when it is complete.

        Of these scores all is written but their tensors.

        Args:
            path: The file.
            shapes: ``(out, in)`` of every linear layer by name.
            with_second_moments: Whether each has second moments ``(in, in)``.

        Yields:
            The function that writes importance and second moments of the layer of a name, in any order.

        Raises:
            OutputError: If the file cannot be written, or the disk has too little room, which is found before the
                block.
        """
        layout: dict[str, tuple[torch.dtype, Sequence[int]]] = {}
        for name, shape in shapes.items():
            layout[f"importance.{name}"] = torch.float32, shape
            if with_second_moments:
                layout[f"second_moments.{name}"] = torch.float32, (shape[1], shape[1])
        said = {"options": self.options, "layers": self.layers, "origin": self.origin}
        metadata = {"format": _FORMAT, "criterion": self.criterion}
        metadata |= {key: json.dumps(dict(value)) for key, value in said.items()}
        remedy = "Make room, or name a file on another disk: --scores FILE."
        with writing_tensors(path, layout, metadata, remedy=remedy) as write:

            def put(name: str, importance: Tensor, second_moments: Tensor | None) -> None:
                write(f"importance.{name}", importance)
                if second_moments is not None:
                    write(f"second_moments.{name}", second_moments)

            yield put

    def save(self, path: str | Path) -> None:
        """Write the scores to a file.

        Raises:
            OutputError: If the file cannot be written.
        """
        shapes = shapes_of(self.importances)
        with self.writing(Path(path), shapes, with_second_moments=bool(self.second_moments)) as write:
            for name, values in self.importances.items():
                write(name, values, self.second_moments.get(name))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Open scores that were written to a file; each linear layer is read when it is asked for.

        Raises:
            ConfigError: If the file is missing, damaged or not a scores file.
        """
        remedy = "Name another file; if this one held scores, delete it, and they are measured again."
        stored = StoredTensors(Path(path), kind=_FORMAT, remedy=remedy)
        try:
            said = stored.metadata
            options, layers, origin = (json.loads(said[key]) for key in ("options", "layers", "origin"))
            importances = stored.renamed({name: f"importance.{name}" for name in layers})
            criterion = said["criterion"]
        except (KeyError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error} is missing or damaged.", remedy) from error
        keys = {name: f"second_moments.{name}" for name in layers}
        second_moments = stored.renamed({name: key for name, key in keys.items() if key in stored})
        return cls(criterion, options, importances, layers, second_moments, origin)


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
