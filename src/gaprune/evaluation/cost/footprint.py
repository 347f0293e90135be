"""How many weights a model has and how many of them are zero, by layer and kind."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.models.linear_layers import Kind, linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = ["Footprint", "MatrixFootprint", "footprint"]


@dataclass(frozen=True)
class MatrixFootprint:
    """Size and zeros of one matrix."""

    name: str
    kind: Kind
    layer: int | None
    size: int
    zeros: int


@dataclass(frozen=True)
class Footprint:
    """Size and zeros of a model.

    Args:
        matrices: Every linear matrix in model order.
        parameters: Parameters of the whole model, embeddings included.
        zeros: Zeros among them.
        bytes: Bytes that the parameters take in memory; zeros take as many as others.
    """

    linear_layers: tuple[MatrixFootprint, ...]
    parameters: int
    zeros: int
    bytes: int

    def sparsity(self, selected: Collection[str] | None = None) -> float:
        """Return the fraction of zeros: of the matrices named, or of the whole model."""
        if selected is None:
            return self.zeros / self.parameters
        chosen = [matrix for matrix in self.linear_layers if matrix.name in selected]
        return sum(matrix.zeros for matrix in chosen) / sum(matrix.size for matrix in chosen)

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Return ``(size, zeros)`` of each kind of matrix."""
        totals: dict[Kind, tuple[int, int]] = {}
        for matrix in self.linear_layers:
            size, zeros = totals.get(matrix.kind, (0, 0))
            totals[matrix.kind] = (size + matrix.size, zeros + matrix.zeros)
        return totals

    def by_layer(self) -> dict[int | None, tuple[int, int]]:
        """Return ``(size, zeros)`` of each block by its index, of what lies outside the blocks as ``None``, last."""
        totals: dict[int | None, tuple[int, int]] = {}
        for matrix in sorted(self.linear_layers, key=lambda each: (each.layer is None, each.layer or 0)):
            size, zeros = totals.get(matrix.layer, (0, 0))
            totals[matrix.layer] = (size + matrix.size, zeros + matrix.zeros)
        return totals

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers for JSON."""
        return {
            "parameters": self.parameters,
            "zeros": self.zeros,
            "bytes": self.bytes,
            "sparsity_of_model": self.sparsity(),
            "matrices": [
                {"name": m.name, "kind": m.kind, "layer": m.layer, "size": m.size, "zeros": m.zeros}
                for m in self.linear_layers
            ],
        }


def footprint(model: SentenceTransformer) -> Footprint:
    """Count the parameters and zeros of ``model``, shared parameters once."""
    parameters = list(model.parameters())
    return Footprint(
        linear_layers=tuple(
            MatrixFootprint(m.name, m.kind, m.layer, m.module.weight.numel(), _zeros(m.module.weight))
            for m in linear_layers(model)
        ),
        parameters=sum(parameter.numel() for parameter in parameters),
        zeros=sum(_zeros(parameter) for parameter in parameters),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
    )


def _zeros(parameter: Tensor) -> int:
    return parameter.numel() - int(parameter.count_nonzero())
