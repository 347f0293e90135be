"""What a model loses in another shape: on a quick reconstruction, or with parts of the model switched off."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import for_layers, for_units
from gaprune.models.hidden import heads_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.basis import Basis
from gaprune.pruning.calibration import effect_triplets
from gaprune.pruning.costs import Shape
from gaprune.pruning.removable.base import RemovedUnits
from gaprune.pruning.removable.hidden import KEPT, Hidden
from gaprune.pruning.removable.units import most_important
from gaprune.statistics.degradation import ReferenceOutputs, skipping

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Degradation = Callable[[Shape, Collection[int]], float]
"""Returns what a model loses in a shape, without these layers."""

_KINDS: tuple[Literal["width", "heads"], ...] = "width", "heads"

_Value = TypeVar("_Value")


def degradation_of_shapes(model: SentenceTransformer, basis: Basis, recipe: Recipe) -> Degradation:
    """Return the function that measures; the units that are kept are the most important ones of the whole model.

    Args:
        model: The parent.
        basis: Ranks units. If it has a quick reconstruction, the degradation is what that leaves.
        recipe: Number of triplets, loss and seed.
    """
    if basis.units is None:
        raise ValueError("shapes are compared by a ranking of units")
    importances = basis.units.importances(model, for_units(basis.criterion, basis.name))
    whole, hidden, quick = Shape.of(model), Hidden(recipe), basis.quick
    triplets = effect_triplets(basis.calibration, recipe, {"domain"}, basis.held_out)
    reference = ReferenceOutputs(model, triplets["domain"], prompts=basis.calibration.prompts, options=recipe)
    preservation = for_layers(basis.criterion, basis.name).preservation_weight

    def degradation(shape: Shape, removed_layers: Collection[int]) -> float:
        narrow = hidden.chosen(model, shape.hidden, importances) if shape.hidden < whole.hidden else None
        changed = [kind for kind in _KINDS if getattr(shape, kind) != getattr(whole, kind)]
        groups = {kind: unit_groups(model, kind) for kind in changed}
        columns: dict[str, Tensor] = {}
        for kind, found in groups.items():
            masks = most_important({each.name: importances[each.name] for each in found}, getattr(shape, kind))
            left = {each.name: masks[each.name].repeat_interleave(each.consumer.columns_per_unit) for each in found}
            columns |= left if quick is None else _in_place(found, removed_layers, left)
        if quick is None:
            other = model if narrow is None else hidden.cut(model, narrow)
            with skipping(other, removed_layers), _switched_off(other, columns):
                return reference.degradation(other, preservation=preservation)
        if narrow is not None:
            heads = _in_place(heads_of(model), removed_layers, narrow.kept)
            narrow = replace(narrow, kept={KEPT: narrow.kept[KEPT], **heads})
        child = quick(removed_layers, columns, None if narrow is None else partial(_narrowed, hidden, narrow))
        return reference.degradation(child, preservation=preservation)

    return degradation


def _narrowed(
    hidden: Hidden, choice: RemovedUnits, model: SentenceTransformer
) -> tuple[SentenceTransformer, Mapping[str, Tensor]]:
    return hidden.cut(model, choice), hidden.outputs(model, choice)


def _in_place(
    groups: Sequence[UnitGroup], removed_layers: Collection[int], values: Mapping[str, _Value]
) -> dict[str, _Value]:
    """Return the values of the groups that are left, by their names in a model without these layers.

    The blocks that are left have the places, and so the names, of as many from the first.
    """
    left = [group for group in groups if group.layer not in removed_layers]
    return {groups[place].name: values[group.name] for place, group in enumerate(left)}


@contextmanager
def _switched_off(model: SentenceTransformer, columns: Mapping[str, Tensor]) -> Iterator[None]:
    """Let linear layers see zeros in the columns that are not kept."""

    def hook(mask: Tensor) -> Any:
        def switch(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.where(mask.to(args[0].device), args[0], 0), *args[1:])

        return switch

    with ExitStack() as stack:
        for linear in linear_layers(model) if columns else ():
            if linear.name in columns:
                stack.callback(linear.module.register_forward_pre_hook(hook(columns[linear.name])).remove)
        yield
