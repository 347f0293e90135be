"""The linear weight matrices of a model, found by structure rather than by the family's name.

A transformer is a list of like blocks; inside a block, a matrix belongs to attention if a module on the way to
it says so in its name or class, and to the MLP otherwise. That holds for BERT, XLM-R, MPNet, DistilBERT, ModernBERT,
Qwen3, Mistral, Llama and Gemma alike, with separate or fused projections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import nn

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Kind", "Matrix", "blocks", "matrices"]

Kind = Literal["mlp", "attention", "other"]

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A linear layer whose weight ``(out, in)`` can be pruned.

    Args:
        name: As in the transformer's own checkpoint (``encoder.layer.0.output.dense``); for modules after the
            transformer, as in sentence-transformers (``2.linear``).
        module: The layer itself.
        kind: Which part of a block it belongs to; ``other`` outside the blocks.
        layer: Index of its block; ``None`` outside the blocks.
        unit: Input columns that make up one unit (FFN neuron, head group), neighbours; one for most matrices.
    """

    name: str
    module: nn.Linear
    kind: Kind
    layer: int | None
    unit: int = 1


def matrices(model: SentenceTransformer) -> list[Matrix]:
    """Return every linear layer of ``model`` in module order.

    Raises:
        ModelError: If the model holds no transformer, or no linear layers in its blocks.
    """
    transformer = model.transformers_model
    if transformer is None:
        raise ModelError(
            f"The model's first module is a {type(model[0]).__name__}, not a transformer.",
            "Choose a model whose modules start with a Transformer.",
        )
    inside = next(name for name, module in model.named_modules() if module is transformer)
    blocks = _blocks(transformer)
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            name = path.removeprefix(f"{inside}.")
            layer, within = _place(name, blocks) if name != path else (None, "")
            kind: Kind = "other" if layer is None else _kind(transformer.get_submodule(f"{blocks}.{layer}"), within)
            found.append(Matrix(name, module, kind, layer))
    if all(matrix.layer is None for matrix in found):
        raise ModelError(
            f"No linear layers were found in the blocks of this {type(transformer).__name__}.",
            "Models whose blocks keep their weights in torch.nn.Linear can be pruned; please report this one.",
        )
    return found


def blocks(model: SentenceTransformer) -> list[nn.Module]:
    """Return the blocks of the transformer of ``model`` in their order; none where it has none."""
    transformer = model.transformers_model
    path = "" if transformer is None else _blocks(transformer)
    return list(transformer.get_submodule(path).children()) if transformer is not None and path else []


def _blocks(transformer: nn.Module) -> str:
    """Return the path of the list of blocks: the module list that holds most parameters, the outermost of equals."""
    sizes = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in transformer.named_modules()
        if isinstance(module, nn.ModuleList)
    }
    return max(sizes, key=lambda path: sizes[path], default="")


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
