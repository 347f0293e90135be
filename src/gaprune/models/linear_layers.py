"""The linear weight matrices of a model, found by structure rather than by the family's name.

A transformer is a list of like blocks; inside a block, a matrix belongs to attention if a module on the way to
it says so in its name or class, and to the MLP otherwise. That holds for BERT, XLM-R, MPNet, DistilBERT, ModernBERT,
Qwen3, Mistral, Llama and Gemma alike, with separate or fused projections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from torch import nn

from gaprune.errors import ModelError
from gaprune.models.blocks import block_path, transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Kind", "LinearLayer", "linear_layers"]

Kind = Literal["mlp", "attention", "other"]

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """A linear layer whose weight ``(out, in)`` can be pruned.

    Args:
        name: As in the transformer's own checkpoint (``encoder.layer.0.output.dense``); for modules after the
            transformer, as in sentence-transformers (``2.linear``).
        module: The layer itself.
        kind: Which part of a block it belongs to; ``other`` outside the blocks.
        layer: Index of its block; ``None`` outside the blocks.
        columns_per_unit: Neighbouring input columns that make up one unit: 1 but for attention heads.
        writes_residual: Whether its outputs are added to the residual stream.
    """

    name: str
    module: nn.Linear
    kind: Kind
    layer: int | None
    columns_per_unit: int = 1
    writes_residual: bool = False


def linear_layers(model: SentenceTransformer) -> list[LinearLayer]:
    """Return every linear layer of ``model`` in module order.

    Raises:
        ModelError: If the model holds no transformer, or no linear layers in its blocks.
    """
    transformer = transformer_of(model)
    inside = next(name for name, module in model.named_modules() if module is transformer)
    blocks = block_path(transformer)
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            name = path.removeprefix(f"{inside}.")
            layer, within = _place(name, blocks) if name != path else (None, "")
            kind: Kind = "other" if layer is None else _kind(transformer.get_submodule(f"{blocks}.{layer}"), within)
            found.append(LinearLayer(name, module, kind, layer))
    if all(matrix.layer is None for matrix in found):
        raise ModelError(
            f"No linear layers were found in the blocks of this {type(transformer).__name__}.",
            "Models whose blocks keep their weights in torch.nn.Linear can be pruned; please report this one.",
        )
    last = {(matrix.layer, matrix.kind): matrix for matrix in found if matrix.layer is not None}.values()
    return [replace(matrix, writes_residual=True) if matrix in last else matrix for matrix in found]


def _place(name: str, blocks: str) -> tuple[int | None, str]:
    """Split ``encoder.layer.3.output.dense`` into block 3 and ``output.dense``."""
    if not blocks or not name.startswith(f"{blocks}."):
        return None, name
    index, _, within = name.removeprefix(f"{blocks}.").partition(".")
    return int(index), within


def _kind(block: nn.Module, within: str) -> Kind:
    if not within:
        return "mlp"
    parts = within.split(".")
    ancestors = (block.get_submodule(".".join(parts[:end])) for end in range(1, len(parts)))
    said = [*parts, *(type(module).__name__ for module in ancestors)]
    return "attention" if any(_ATTENTION.search(word) for word in said) else "mlp"
