"""Scores: what a criterion says of every weight, kept so that any budget can be asked of it later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gaprune.anatomy import Matrix
from gaprune.config import Allocation
from gaprune.criteria import Criterion, Evidence, Reconstruction, create
from gaprune.errors import ConfigError, OutputError, SignalError
from gaprune.files import replacing
from gaprune.masks import keep_masks, pattern_mask, zeros_per_matrix
from gaprune.progress import track
from gaprune.signals import Signals
from gaprune.surgery import Pruning

__all__ = ["Scores", "StorageType", "score"]

StorageType = Literal["float32", "bfloat16"]

_FORMAT = "gaprune-scores-1"


@dataclass(frozen=True)
class Scores:
    """Importance of every selected weight.

    Args:
        criterion: Name of the criterion.
        options: Its constants.
        importances: ``(out, in)`` fp32 by name of the matrix, in model order.
        layers: Block of each matrix, ``None`` outside the blocks.
        grams: Input second moments ``(in, in)`` where the criterion updates weights.
        origin: What they depend on (fingerprints and options), compared before scores are reused.
    """

    criterion: str
    options: Mapping[str, object]
    importances: Mapping[str, Tensor]
    layers: Mapping[str, int | None]
    grams: Mapping[str, Tensor] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)

    def mask(self, *, sparsity: float, allocation: Allocation | None = None) -> dict[str, Tensor]:
        """Return which weights stay at a sparsity; true stays.

        Raises:
            ConfigError: If the criterion chooses while it updates, so that only :meth:`decide` knows.
        """
        criterion = create(self.criterion, self.options)
        if isinstance(criterion, Reconstruction):
            raise ConfigError(f"{self.criterion} chooses while it updates weights.", "Ask Scores.decide instead.")
        chosen = allocation or criterion.default_allocation
        return keep_masks(self.importances, self.layers, sparsity=sparsity, allocation=chosen)

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
            weights: Weights ``(out, in)`` by name; read by criteria that update them.
            sparsity: Fraction to remove.
            allocation: Where the budget is compared; the criterion's default for ``None``.
            pattern: ``(N, M)``, which fixes the sparsity.

        Raises:
            ConfigError: If the criterion cannot work with the allocation, or the pattern does not fit a width.
        """
        criterion = create(self.criterion, self.options)
        if isinstance(criterion, Reconstruction):
            criterion.refuse_allocation(self.criterion, allocation)
            return self._reconstruct(criterion, weights, sparsity, pattern)
        if pattern is not None:
            return Pruning(
                {name: pattern_mask(values, pattern, name=name) for name, values in self.importances.items()}
            )
        return Pruning(self.mask(sparsity=sparsity, allocation=allocation))

    def _reconstruct(
        self,
        criterion: Reconstruction,
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
                weights[name].float(), self.grams[name].to(weights[name].device), zeros=zeros[name], pattern=pattern
            )
            keep[name], updated[name] = solution.keep, solution.weight
        return Pruning(keep, updated)

    def below(self, keep: Mapping[str, Tensor]) -> Self:
        """Return the same scores with the weights that do not stay in ``keep`` below all others: they go first."""
        lowest = min(float(values.min()) for values in self.importances.values())
        floor = min(2 * lowest, -1.0)
        pressed = {name: values.masked_fill(~keep[name], floor) for name, values in self.importances.items()}
        return replace(self, importances=pressed)

    def save(self, path: str | Path, *, storage: StorageType = "float32") -> None:
        """Write the scores as safetensors, moved into place when complete.

        ``bfloat16`` halves the importances (Gram matrices stay in fp32); each matrix is scaled to a maximum of one, so
        nothing underflows unseen.

        Raises:
            OutputError: If the file cannot be written.
            SignalError: If a score would become zero in ``bfloat16``.
        """
        path = Path(path)
        tensors: dict[str, Tensor] = {f"gram.{name}": gram.contiguous().cpu() for name, gram in self.grams.items()}
        scales = {}
        for name, values in self.importances.items():
            scales[name], tensors[f"importance.{name}"] = _packed(name, values, storage)
        header = {
            "format": _FORMAT,
            "criterion": self.criterion,
            "options": json.dumps(dict(self.options)),
            "layers": json.dumps(dict(self.layers)),
            "scales": json.dumps(scales),
            "origin": json.dumps(dict(self.origin)),
        }
        try:
            with replacing(path) as partial:
                save_file(tensors, partial, metadata=header)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"The scores cannot be written to {path}: {error}", "Name a file in a folder you can write to."
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read scores written by :meth:`save`.

        Raises:
            ConfigError: If the file is missing, broken or no scores file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise ConfigError(f"{path} holds no scores of this version.", "Delete it, or name another file.")
                layers, scales = json.loads(header["layers"]), json.loads(header["scales"])
                names = set(file.keys())
                return cls(
                    criterion=header["criterion"],
                    options=json.loads(header["options"]),
                    importances={
                        name: file.get_tensor(f"importance.{name}").float() * scales[name] for name in layers
                    },
                    layers=layers,
                    grams={name: file.get_tensor(f"gram.{name}") for name in layers if f"gram.{name}" in names},
                    origin=json.loads(header["origin"]),
                )
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ConfigError(
                f"The scores in {path} cannot be read: {error}",
                "Name another file; if this one held scores, delete it, and it is made anew.",
            ) from error


def score(
    matrices: list[Matrix],
    criterion: Criterion,
    name: str,
    *,
    domain: Signals | None,
    general: Signals | None,
    seed: int,
    origin: Mapping[str, object] | None = None,
) -> Scores:
    """Apply a criterion to every matrix.

    Raises:
        SignalError: If a weight or an importance is not finite; it names the matrix.
    """
    importances, grams = {}, {}
    for matrix in matrices:
        evidence = Evidence(
            matrix.name,
            matrix.module.weight.detach().float(),
            None if domain is None else domain[matrix.name],
            None if general is None else general[matrix.name],
            seed,
        )
        values = criterion.importance(evidence)
        if not torch.isfinite(values).all():
            raise SignalError(
                f"{matrix.name}: the importance ({name}) is not finite; "
                + ("the weight is." if torch.isfinite(evidence.weight).all() else "nor is the weight."),
                f"Check the model, or leave the layer out: --ignore {matrix.name}",
            )
        importances[matrix.name] = values
        if isinstance(criterion, Reconstruction):
            grams[matrix.name] = criterion.gram(evidence)
    return Scores(
        criterion=name,
        options=criterion.model_dump(),
        importances=importances,
        layers={matrix.name: matrix.layer for matrix in matrices},
        grams=grams,
        origin=origin or {},
    )


def _packed(name: str, values: Tensor, storage: StorageType) -> tuple[float, Tensor]:
    """Return the scale and the tensor to store."""
    values = values.detach().cpu().contiguous()
    if storage == "float32":
        return 1.0, values
    scale = float(values.abs().max()) or 1.0
    packed = (values / scale).bfloat16()
    if int(packed.count_nonzero()) != int(values.count_nonzero()):
        raise SignalError(f"{name}: some scores would become zero in bfloat16.", "Keep the scores in float32.")
    return scale, packed
