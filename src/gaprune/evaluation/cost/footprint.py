"""The number of weights of a model, of zeros among them by layer and kind, and of operations for a text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from gaprune.models.encode import tokenized
from gaprune.models.kinds import Kind
from gaprune.models.linear_layers import linear_layers
from gaprune.models.modes import padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

Key = TypeVar("Key")

_EXAMPLES = ("a b", "a b c d", "a b c d e f g h")
"""Texts of different lengths; three of them determine the formula."""


@dataclass(frozen=True)
class LayerFootprint:
    """Number of weights and of zeros of one linear layer; ``shape`` is ``None`` in earlier records."""

    name: str
    kind: Kind
    layer: int | None
    size: int
    zeros: int
    shape: tuple[int, ...] | None = None


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

    def by_shape(self) -> dict[tuple[str, Kind, tuple[int, ...] | None], tuple[int, int]]:
        """Return the number of linear layers, and the weights of each, by name, kind and shape.

        In the name, ``*`` stands for the number of the block.
        """
        found: dict[tuple[str, Kind, tuple[int, ...] | None], tuple[int, int]] = {}
        for each in self.linear_layers:
            name = each.name if each.layer is None else each.name.replace(f".{each.layer}.", ".*.")
            key = (name, each.kind, each.shape)
            found[key] = (found.get(key, (0, 0))[0] + 1, each.size)
        return found

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
            LayerFootprint(m.name, m.kind, m.layer, weight.numel(), _zeros(weight), tuple(weight.shape))
            for m in linear_layers(model)
            for weight in (m.module.weight,)
        ),
        parameters=sum(parameter.numel() for parameter in parameters),
        zeros=sum(_zeros(parameter) for parameter in parameters),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
    )


def _zeros(parameter: Tensor) -> int:
    return parameter.numel() - int(parameter.count_nonzero())


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of linear layers and attention; a multiplication and an addition are two.

    Zeros count as any other weight, because runtimes multiply them. Embeddings are looked up, and normalisations,
    activations and softmax are left out because they are small.

    Args:
        linear_layers: Per token: twice the weights of every linear layer, as often as the token passes it.
        attention: Per pair of tokens: four times heads x head size x layers. Windows and causal masks do not lower it.
        text: Per text: twice the weights of the linear layers that see only its pooled embedding.
    """

    linear_layers: int
    attention: int
    text: int

    def per_token(self, length: int) -> float:
        """Return the operations per token of a text: linear layers + attention x length + text / length."""
        return self.linear_layers + self.attention * length + self.text / length

    def as_dict(self) -> dict[str, int]:
        """Return plain numbers for JSON."""
        return asdict(self)


def count_flops(model: SentenceTransformer) -> Flops:
    """Count the operations of three short texts with PyTorch's counter, and solve for the formula."""
    from torch.utils.flop_counter import FlopCounterMode

    lengths, counts = [], []
    for text in _EXAMPLES:
        # The counter does not know the fused attention of CPUs.
        counter = FlopCounterMode(
            display=False,
            custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention},  # noqa: SLF001
        )
        with padded_inputs(model), torch.no_grad():
            features = tokenized(model, [text])
            with counter:
                model(features)
        lengths.append(int(features["attention_mask"].sum()))
        counts.append(counter.get_total_flops())
    terms = np.array([[length, length**2, 1] for length in lengths], dtype=np.float64)
    return Flops(*(round(term) for term in np.linalg.solve(terms, np.array(counts, dtype=np.float64))))


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Return the operations of queries by keys and of attention by values, ``(batch, heads, tokens, dim)`` each."""
    batch, heads, tokens, size = query
    return 2 * batch * heads * tokens * key[2] * (size + value[3])
