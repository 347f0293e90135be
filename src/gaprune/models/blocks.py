"""The blocks of a transformer: a list of similar modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedConfig, PreTrainedModel

_PER_LAYER = ("layer_types",)
"""Fields of a configuration with one entry for each block."""

_OF_ALL_LAYERS = ("pos_att_type",)
"""Fields with a list that belongs to every block; DeBERTa with two blocks has as many kinds of positions."""


def transformer_of(model: SentenceTransformer) -> PreTrainedModel:
    """Return the transformer inside ``model``.

    Raises:
        ModelError: If ``model`` is of another class, or its first module is not a transformer.
    """
    from sentence_transformers import SentenceTransformer

    if not isinstance(model, SentenceTransformer):
        raise ModelError(
            f"The model is a {type(model).__name__}, not a SentenceTransformer.",
            "Give its folder, a hub id, or what SentenceTransformer(...) returns.",
        )
    transformer = model.transformers_model
    if transformer is None:
        raise ModelError(
            f"The model's first module is a {type(model[0]).__name__}, not a transformer.",
            "Choose a model whose modules start with a Transformer.",
        )
    return transformer


def block_path(transformer: nn.Module) -> str:
    """Return the path of the list of blocks: the module list that holds most parameters, the outermost of equals."""
    sizes = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in transformer.named_modules()
        if isinstance(module, nn.ModuleList)
    }
    return max(sizes, key=lambda path: sizes[path], default="")


def blocks(model: SentenceTransformer) -> list[nn.Module]:
    """Return the blocks of ``model`` in order.

    Raises:
        ModelError: If it has none.
    """
    transformer = transformer_of(model)
    path = block_path(transformer)
    if not path:
        raise ModelError(f"{type(transformer).__name__} has no list of blocks.", "Choose another model.")
    found = transformer.get_submodule(path)
    return list(found.children())


def removable_layers(model: SentenceTransformer) -> list[int]:
    """Return the indices of the blocks that can be removed.

    A block whose weights have other names or shapes than most (ModernBERT's first has no norm before attention) keeps
    its place, because the family builds that place differently.
    """
    shapes = [
        frozenset((name, tuple(tensor.shape)) for name, tensor in block.state_dict().items())
        for block in blocks(model)
    ]
    usual = max(reversed(shapes), key=shapes.count)  # of two, the last: it is the first that can be special
    return [index for index, shape in enumerate(shapes) if shape == usual]


def layer_fields(config: PreTrainedConfig, kept: Sequence[int]) -> dict[str, Any]:
    """Return the fields of ``config`` that change when only the blocks ``kept`` are left, with their new values.

    Raises:
        ModelError: If the configuration has another list with one entry for each block.
    """
    count = config.num_hidden_layers
    changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
    for field, value in config.to_dict().items():
        if field in _PER_LAYER and isinstance(value, list):
            changes[field] = [value[index] for index in kept]
        elif isinstance(value, list) and len(value) == count > 1 and field not in _OF_ALL_LAYERS and field[0] != "_":
            raise ModelError(
                f"{type(config).__name__}.{field} has as many entries as the model has blocks, and it is not known "
                "how to change them when blocks are removed.",
                "Remove something else; please report this family.",
            )
    return changes
