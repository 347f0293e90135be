"""A cut on trial, before anything is measured: what stays must compute what it computes when the rest is masked.

What a criterion measures, and what reconstruction starts from, is the parent with parts masked. In some families what
stays depends on the number or the place of the others (a scale of the residual stream by the number of layers, a norm
over all heads), so that the model that is written is another one than the model that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gaprune.errors import ModelError
from gaprune.models.blocks import transformer_of
from gaprune.models.encode import encode
from gaprune.models.modes import padded_inputs
from gaprune.models.probe import TEXTS, embedding
from gaprune.models.units import UnitGroup

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_SAME_PRODUCTS, _SHORTER_SUMS, _SHORTER_SUMS_IN_16_BITS = 1e-4, 1e-3, 5e-2
"""Greatest relative difference: by the same products, by sums of fewer terms, and by these in 16-bit formats."""


def check_alike(masked: NDArray[np.float32], cut: SentenceTransformer, label: str, *, shorter_sums: bool) -> None:
    """Refuse a cut that changes what the kept parts compute.

    Args:
        masked: Embeddings of the two texts by the parent with the same parts masked, of :func:`embedded`.
        cut: The parent without them.
        label: What was removed, in words.
        shorter_sums: Whether the cut model sums fewer terms, so that it rounds otherwise.

    Raises:
        ModelError: If the embeddings differ by more than rounding.
    """
    found = embedded(cut)
    difference = float(np.linalg.norm(found - masked) / np.linalg.norm(masked))
    allowed = _SAME_PRODUCTS
    if shorter_sums:
        allowed = _SHORTER_SUMS_IN_16_BITS if transformer_of(cut).dtype.itemsize < 4 else _SHORTER_SUMS
    if not difference <= allowed:
        raise ModelError(
            f"{label[0].upper()}{label[1:]} cannot be removed from this {type(transformer_of(cut)).__name__}: what "
            f"stays depends on how many there are, or on their places (embeddings of two texts differ by "
            f"{difference:.1%} from those of the model with the same parts masked).",
            "Remove something else; a target removes layers and neurons.",
        )


def embedded(model: SentenceTransformer) -> NDArray[np.float32]:
    """Return the embeddings of two short texts, ``(2, dim)``."""
    with padded_inputs(model), embedding():
        return encode(model, TEXTS, "query", "", batch_size=len(TEXTS))


@contextmanager
def masking(groups: list[UnitGroup], keep: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the layers that read units see zeros in place of those that are not kept, ``(units,)`` by group."""
    with ExitStack() as stack:
        for group in groups:
            columns = keep[group.name].repeat_interleave(group.consumer.columns_per_unit)
            stack.callback(group.consumer.module.register_forward_pre_hook(_Mask(columns)).remove)
        yield


class _Mask:
    def __init__(self, columns: Tensor) -> None:
        self._columns = columns

    def __call__(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, *others = args
        return (torch.where(self._columns.to(hidden.device), hidden, torch.zeros_like(hidden)), *others)
