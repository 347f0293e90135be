"""How many floating-point operations a text costs, as a formula of its length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.load import padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

__all__ = ["Flops", "count_flops"]

_EXAMPLE = "a text of a few tokens"


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrices and attention; a multiplication and an addition are two.

    Zeros count as any other weight, because runtimes multiply them. Embeddings are looked up, and normalisations,
    activations and softmax are left out: they are of another order.

    Args:
        matrices: A token: twice the weights of every matrix it passes, as often as it passes.
        attention: A token and a token of the text's length: scores and their sums cost four times heads x head size
            a layer. Windows and causal masks are not taken off.
        text: A text: twice the weights of the matrices that see only its pooled embedding.
    """

    matrices: int
    attention: int
    text: int

    def per_token(self, length: int) -> float:
        """Return the operations a token in a text of ``length``: matrices + attention x length + text / length."""
        return self.matrices + self.attention * length + self.text / length

    def as_dict(self) -> dict[str, int]:
        """Return plain numbers for JSON."""
        return asdict(self)


def count_flops(model: SentenceTransformer) -> Flops:
    """Count by running one short text and watching which matrices it passes, how often, and with how many rows."""
    found = linear_layers(model)
    outputs = {matrix.layer: matrix for matrix in found if matrix.kind == "attention"}  # the last is the output's
    ends = {matrix.name for matrix in outputs.values()}
    with padded_inputs(model):
        features = {
            name: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for name, value in model.preprocess([_EXAMPLE]).items()
        }
    tokens = int(features["attention_mask"].sum())
    counts = {"matrices": 0, "attention": 0, "text": 0}

    def watch(matrix: LinearLayer) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Any) -> None:
            rows = inputs[0].numel() // matrix.module.in_features
            counts["matrices" if rows == tokens else "text"] += 2 * matrix.module.weight.numel()
            if matrix.name in ends:
                counts["attention"] += 4 * matrix.module.in_features

        return hook

    handles = [matrix.module.register_forward_hook(watch(matrix)) for matrix in found]
    try:
        with torch.no_grad():
            model(features)
    finally:
        for handle in handles:
            handle.remove()
    return Flops(**counts)
