"""The floating-point operations of a text, as a formula of its length."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gaprune.models.modes import padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_EXAMPLES = ("a b", "a b c d", "a b c d e f g h")
"""Texts of different lengths; three of them determine the formula."""


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
            features = {
                name: value.to(model.device) if isinstance(value, torch.Tensor) else value
                for name, value in model.preprocess([text]).items()
            }
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
