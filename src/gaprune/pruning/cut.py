"""Cutting whole units out of a model: FFN neurons, attention heads, layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from gaprune.errors import ModelError, SelectionError
from gaprune.models.blocks import block_path, blocks, layer_fields, removable_layers, transformer_of
from gaprune.models.units import UnitGroup, neighbours
from gaprune.pruning.rebuild import rebuild

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def remove_units(
    model: SentenceTransformer, groups: Sequence[UnitGroup], keep: Mapping[str, Tensor], *, share: bool = False
) -> SentenceTransformer:
    """Return a smaller copy of ``model`` with the kept units alone.

    Args:
        model: The model; it is left as it is.
        groups: All groups of units of one kind.
        keep: Which units of each group are kept, ``(units,)`` by the group's name.
        share: Whether weights that stay whole are those of ``model`` itself, for a copy that is run and thrown away.

    Raises:
        SelectionError: If a group is missing, has another size, or keeps another number than the first.
        ModelError: If the family's configuration cannot say it.
    """
    counts = {}
    for group in groups:
        mask = keep.get(group.name)
        if mask is None or mask.shape != (group.units,):
            raise SelectionError(
                f"{group.name}: {group.units} units, and the decision has "
                f"{'none' if mask is None else tuple(mask.shape)}.",
                "Apply a decision to the model it was made for.",
            )
        counts[group.name] = int(mask.sum())
    count = counts[groups[0].name]
    uneven = [name for name, found in counts.items() if found != count]
    if uneven or not count:
        raise SelectionError(
            f"{(uneven or list(counts))[0]} keeps {counts[(uneven or list(counts))[0]]} units, "
            + (f"{groups[0].name} {count}." if uneven else "and at least one must be kept."),
            "Keep the same number in every block: one field of the configuration serves all.",
        )
    tensors: dict[str, Tensor] = {}
    for group in groups:
        tensors |= _cut_group(group, keep[group.name].nonzero().squeeze(1))
    return rebuild(model, {field: each * count for field, each in groups[0].fields.items()}, tensors, share=share)


def _cut_group(group: UnitGroup, kept: Tensor) -> dict[str, Tensor]:
    """Return the smaller tensors of a group by their names."""
    consumer = group.consumer.module.weight
    tensors = {
        f"{group.consumer.name}.weight": consumer[
            :, neighbours(kept, group.consumer.columns_per_unit).to(consumer.device)
        ]
    }
    for producer in group.producers:
        module = producer.linear.module
        rows = producer.rows_of(kept)
        tensors[f"{producer.linear.name}.weight"] = module.weight[rows.to(module.weight.device)]
        if module.bias is not None:
            tensors[f"{producer.linear.name}.bias"] = module.bias[rows.to(module.bias.device)]
    return tensors


def remove_layers(model: SentenceTransformer, layers: Collection[int], *, share: bool = False) -> SentenceTransformer:
    """Return a shallower copy of ``model`` without these blocks.

    Args:
        model: The model; it is left as it is.
        layers: Indices of the blocks.
        share: Whether the weights are those of ``model`` itself, for a copy that is run and thrown away.

    Raises:
        SelectionError: If there is no such block, or no block would be left.
        ModelError: If the family's configuration cannot say it.
    """
    count = len(blocks(model))
    fixed = sorted(set(layers) - set(removable_layers(model)))
    kept = [index for index in range(count) if index not in layers]
    if fixed and fixed[0] in range(count):
        raise ModelError(
            f"Layer {fixed[0]} of this {type(transformer_of(model)).__name__} is built differently from the others, "
            "so none can take its place.",
            "Remove other layers.",
        )
    if fixed or not kept:
        raise SelectionError(
            f"The model has layers 0 to {count - 1}; "
            + (f"there is no layer {fixed[0]}." if fixed else "at least one must be kept."),
            "Remove fewer layers.",
        )
    path = block_path(transformer_of(model))
    places = {before: after for after, before in enumerate(kept)}

    def rename(name: str) -> str | None:
        if not name.startswith(f"{path}."):
            return name
        index, _, within = name.removeprefix(f"{path}.").partition(".")
        return f"{path}.{places[int(index)]}.{within}" if int(index) in places else None

    return rebuild(model, layer_fields(transformer_of(model).config, kept), {}, rename, share=share)
