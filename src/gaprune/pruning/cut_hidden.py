"""Cutting dimensions of the residual stream out of a model, with the attention heads that depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Size, Tensor, nn

from gaprune.errors import ModelError, SelectionError
from gaprune.models.blocks import transformer_of
from gaprune.models.heads import add_head, dense_head
from gaprune.models.hidden import head_size, heads_of, modules_after
from gaprune.models.units import UnitGroup, neighbours
from gaprune.pruning.rebuild import changed_config, rebuild, skeleton

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_Index = dict[tuple[str, int], Tensor]
"""Kept entries of a tensor along an axis, by name and axis."""


def remove_hidden(
    model: SentenceTransformer, kept: Sequence[int], heads: Mapping[str, Sequence[int]]
) -> SentenceTransformer:
    """Return a copy of ``model`` with these dimensions of the residual stream alone.

    Norms take their statistics over the kept dimensions. The embedding keeps its width: a linear head that follows
    pooling reads the kept dimensions, and where none does, one is added that puts every dimension where it was.

    Args:
        model: The model.
        kept: Indices of the kept dimensions.
        heads: Indices of the kept attention heads by name of the output projection; empty where heads do not depend
            on the hidden size.

    Raises:
        SelectionError: If dimensions and heads do not fit each other or the model.
        ModelError: If the hidden size of the family cannot be changed.
    """
    size, each, groups = transformer_of(model).config.hidden_size, head_size(model), heads_of(model)
    wrong = [name for name, found in heads.items() if len(set(found)) * each != len(set(kept))]
    if wrong or {group.name for group in groups} != heads.keys() or not set(kept) <= set(range(size)) or not kept:
        raise SelectionError(
            f"{len(kept)} of {size} hidden dimensions do not fit the attention heads of {wrong or list(heads)}.",
            "Keep some dimensions, and in every block a head for as many as make one.",
        )
    dimensions = torch.tensor(sorted(kept))
    index = _head_index(model, groups, heads)
    tensors = dict(transformer_of(model).state_dict())
    changes = _changes(len(dimensions), each, groups)
    for name, axis in _changed_axes(model, changes):
        entries = index.get((name, axis), dimensions)
        tensors[name] = tensors[name].index_select(axis, entries.to(tensors[name].device))
    child = rebuild(model, changes, tensors)
    _narrow(child, dimensions, size)
    return child


def check_cut(model: SentenceTransformer, kept: int) -> None:
    """Refuse a model that cannot have ``kept`` hidden dimensions.

    Raises:
        ModelError: If its configuration does not allow it, or it has tensors of which it is not known how they change.
    """
    groups = heads_of(model)
    _changed_axes(model, _changes(kept, head_size(model), groups))


def kept_outputs(
    model: SentenceTransformer, groups: Sequence[UnitGroup], kept: Sequence[int], heads: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Return which outputs of linear layers are kept, indices by name; layers that keep all of them are left out.

    Args:
        model: The parent.
        groups: Its hidden dimensions.
        kept: Indices of the kept dimensions.
        heads: Indices of the kept attention heads by name of the output projection.
    """
    index = _head_index(model, heads_of(model), heads)
    rows = {
        producer.linear.name: index[f"{producer.linear.name}.weight", 0]
        for group in heads_of(model)
        for producer in group.producers
    }
    writers = {producer.linear.name for group in groups for producer in group.producers}
    return rows | dict.fromkeys(writers, torch.tensor(sorted(kept)))


def _changes(kept: int, each: int, heads: Sequence[UnitGroup]) -> dict[str, Any]:
    """Return the changed fields of the configuration."""
    counts = heads[0].fields if heads else {}
    return {"hidden_size": kept} | {field: count * (kept // each) for field, count in counts.items()}


def _changed_axes(model: SentenceTransformer, changes: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the names and axes of the transformer's tensors that get smaller with another configuration.

    Raises:
        ModelError: If the configuration does not allow it, or a tensor changes in another way.
    """
    old = transformer_of(model)
    new = skeleton(old, changed_config(old.config, changes))
    known = {(getattr(old.config, field), value) for field, value in changes.items()}
    known |= {(3 * was, 3 * now) for was, now in known}  # queries, keys and values in one layer
    before, after = _shapes(old), _shapes(new)
    found = []
    for name in before | after:
        was, now = before.get(name, Size()), after.get(name, Size())
        pairs = list(enumerate(zip(was, now, strict=False)))
        fits = len(was) == len(now) and name in before and name in after
        if not fits or any(
            one != two and ((one, two) not in known or name not in dict(old.state_dict())) for _, (one, two) in pairs
        ):
            raise ModelError(
                f"{type(old).__name__}.{name}: how it changes with the hidden size is not known.",
                "Use --width, --depth or --vocabulary for this family.",
            )
        found += [(name, axis) for axis, (one, two) in pairs if one != two]
    return found


def _shapes(network: nn.Module) -> dict[str, Size]:
    return {name: each.shape for name, each in [*network.state_dict().items(), *network.named_buffers()]}


def _head_index(model: SentenceTransformer, groups: Sequence[UnitGroup], heads: Mapping[str, Sequence[int]]) -> _Index:
    """Return the entries of the kept heads: rows and columns of projections, and those of tables for all blocks."""
    index: _Index = {}
    for group in groups:
        kept = torch.tensor(sorted(heads[group.name]))
        index[f"{group.name}.weight", 1] = neighbours(kept, group.consumer.columns_per_unit)
        for producer in group.producers:
            rows = producer.rows_of(kept)
            index[f"{producer.linear.name}.weight", 0] = index[f"{producer.linear.name}.bias", 0] = rows
        if group.shared:
            tables = transformer_of(model).named_modules()
            names = [
                path for path, each in tables if isinstance(each, nn.Embedding) and each.embedding_dim == group.units
            ]
            index |= {(f"{name}.weight", 1): kept for name in names}
    return index


def _narrow(child: SentenceTransformer, kept: Tensor, size: int) -> None:
    """Let the modules after the transformer take the kept dimensions, and give an embedding of the old width."""
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling

    columns = kept
    for module in modules_after(child):
        if isinstance(module, Pooling):
            copies = module.pooling_output_dimension // size
            columns = torch.cat([kept + place * size for place in range(copies)])
            module.embedding_dimension, module.pooling_output_dimension = len(kept), len(columns)
        if isinstance(module, Dense):
            weight = module.linear.weight.detach()
            module.linear.weight = nn.Parameter(weight[:, columns.to(weight.device)].contiguous())
            module.linear.in_features = module.in_features = len(columns)
            return
    width = len(columns) // len(kept) * size
    add_head(child, dense_head(torch.eye(width)[:, columns], child))
