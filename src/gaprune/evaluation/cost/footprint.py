"""The number of weights of a model and of zeros among them, by layer and kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from gaprune.models.kinds import Kind
from gaprune.models.linear_layers import linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

Key = TypeVar("Key")


@dataclass(frozen=True)
class LayerFootprint:
    """Number of weights and of zeros of one linear layer."""

    name: str
    kind: Kind
    layer: int | None
    size: int
    zeros: int


@dataclass(frozen=True)
class Footprint:
    """Size and zeros of a model: all parameters, embeddings included, and their bytes in memory."""

    linear_layers: tuple[LayerFootprint, ...]
    parameters: int
    zeros: int
    bytes: int

    def sparsity(self, selected: Collection[str] | None = None) -> float:
        """Return the fraction of zeros: of the linear layers named, or of the whole model."""
        if selected is None:
            return self.zeros / self.parameters
        chosen = [layer for layer in self.linear_layers if layer.name in selected]
        return sum(layer.zeros for layer in chosen) / sum(layer.size for layer in chosen)

    def by_kind(self) -> dict[Kind, tuple[int, int]]:
        """Return ``(size, zeros)`` of each kind of linear layer."""
        return _totals((each.kind, each) for each in self.linear_layers)

    def by_layer(self) -> dict[int | None, tuple[int, int]]:
        """Return ``(size, zeros)`` of each block by its index; ``None``, last, stands for layers outside blocks."""
        in_order = sorted(self.linear_layers, key=lambda each: (each.layer is None, each.layer or 0))
        return _totals((each.layer, each) for each in in_order)

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers for JSON."""
        return {**asdict(self), "sparsity_of_model": self.sparsity()}


def _totals(layers: Iterable[tuple[Key, LayerFootprint]]) -> dict[Key, tuple[int, int]]:
    """Return the sums of sizes and zeros by key."""
    totals: dict[Key, tuple[int, int]] = {}
    for key, layer in layers:
        size, zeros = totals.get(key, (0, 0))
        totals[key] = (size + layer.size, zeros + layer.zeros)
    return totals


def footprint(model: SentenceTransformer) -> Footprint:
    """Count the parameters and zeros of ``model``, shared parameters once."""
    parameters = list(model.parameters())
    return Footprint(
        linear_layers=tuple(
            LayerFootprint(m.name, m.kind, m.layer, m.module.weight.numel(), _zeros(m.module.weight))
            for m in linear_layers(model)
        ),
        parameters=sum(parameter.numel() for parameter in parameters),
        zeros=sum(_zeros(parameter) for parameter in parameters),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
    )


def _zeros(parameter: Tensor) -> int:
    return parameter.numel() - int(parameter.count_nonzero())
