"""The hidden size of a model: dimensions of the residual stream, with everything that has a row or column for each.

One set of dimensions is kept in all layers and in the embedding tables. Where a configuration states no size of a head
(BERT), hidden size over number of heads is that size, so attention heads are removed too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from gaprune.errors import ModelError
from gaprune.models.blocks import transformer_of
from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.units import Producer, UnitGroup, unit_groups

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_OTHER = "Use --width, --depth or --vocabulary for this family."


def hidden_groups(model: SentenceTransformer) -> list[UnitGroup]:
    """Return the hidden dimensions as units: a group for each linear layer in a block that reads the residual stream.

    A dimension is the unit of the same index in all groups.

    Raises:
        ModelError: If the hidden size of this family cannot be changed, or a layer is neither reader nor writer.
    """
    check_family(model)
    size: int = transformer_of(model).config.hidden_size
    blocks: dict[int, list[LinearLayer]] = {}
    for linear in linear_layers(model):
        if linear.layer is not None:
            blocks.setdefault(linear.layer, []).append(linear)
    groups = []
    for layer, found in blocks.items():
        readers = [linear for linear in found if not linear.writes_residual]
        writers = [linear for linear in found if linear.writes_residual]
        for linear, width in (
            *((each, each.module.in_features) for each in readers),
            *((each, each.module.out_features) for each in writers),
        ):
            if width != size:
                raise ModelError(
                    f"{linear.name} has the shape {tuple(linear.module.weight.shape)}, which does not fit the hidden "
                    f"size {size}.",
                    _OTHER,
                )
        producers = tuple(Producer(writer, 1, 1) for writer in writers)
        groups += [
            UnitGroup("hidden", layer, reader, producers, size, {"hidden_size": 1}, shared=True) for reader in readers
        ]
    return groups


def heads_of(model: SentenceTransformer) -> list[UnitGroup]:
    """Return the attention heads that are removed with hidden dimensions, a group for each block; empty for none.

    Raises:
        ModelError: If heads have to be removed, and cannot be in this family.
    """
    if head_size(model) == 1:
        return []
    return unit_groups(model, "heads", tied=True)


def head_size(model: SentenceTransformer) -> int:
    """Return how many hidden dimensions there are for each head; 1 if the two do not depend on each other."""
    config = transformer_of(model).config
    if isinstance(getattr(config, "head_dim", None), int):
        return 1
    size, heads = config.hidden_size, getattr(config, "num_attention_heads", None)
    return size // heads if isinstance(heads, int) and heads else 1


def embedding_norm(model: SentenceTransformer) -> nn.Module | None:
    """Return the norm beside the table of tokens, which embeddings pass before the first block; ``None`` for none."""
    transformer = transformer_of(model)
    table = transformer.get_input_embeddings()
    path = next(path for path, module in transformer.named_modules() if module is table).rpartition(".")[0]
    beside = transformer.get_submodule(path).children() if path else ()
    return next((module for module in beside if "Norm" in type(module).__name__), None)


def check_family(model: SentenceTransformer) -> None:
    """Refuse a model whose hidden size cannot be changed, or with modules after it that cannot follow.

    Raises:
        ModelError: It names the family or the module.
    """
    transformer = transformer_of(model)
    config = transformer.config
    family = type(transformer).__name__
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(f"The configuration {type(config).__name__} does not say the hidden size.", _OTHER)
    scaled = next(
        (path for path, each in transformer.named_modules() if float(getattr(each, "embed_scale", None) or 1) != 1),
        None,
    )
    if scaled is not None:
        raise ModelError(
            f"{family}.{scaled} multiplies embeddings by a factor that depends on the hidden size, so the hidden size "
            "of this family cannot be changed.",
            _OTHER,
        )
    _check_modules(model)


def _check_modules(model: SentenceTransformer) -> None:
    """Refuse modules between the transformer and the embedding whose width cannot be changed.

    Raises:
        ModelError: It names the module.
    """
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    for module in modules_after(model):
        follows = isinstance(module, Pooling | Normalize) or (isinstance(module, Dense) and not module.use_residual)
        if not follows:
            raise ModelError(
                f"A {type(module).__name__} follows the transformer, and it is not known how its width is changed.",
                _OTHER,
            )


def modules_after(model: SentenceTransformer) -> list[nn.Module]:
    """Return the modules after the transformer, up to the first that has weights."""
    found: list[nn.Module] = []
    for module in list(model.children())[1:]:
        found.append(module)
        if any(True for _ in module.parameters()):
            break
    return found
