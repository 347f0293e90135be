"""Hidden dimensions: the width of the residual stream, of the embedding tables and of all that reads or writes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Granularity, for_units
from gaprune.models.blocks import transformer_of
from gaprune.models.hidden import head_size, heads_of, hidden_groups
from gaprune.models.units import UnitGroup
from gaprune.pruning.basis import Basis
from gaprune.pruning.cut_hidden import check_cut, kept_outputs, remove_hidden
from gaprune.pruning.removable.base import RemovedUnits, register
from gaprune.pruning.removable.units import RankedUnits, kept_of, most_important
from gaprune.pruning.rotation import check_rotation, stream_norms

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

KEPT = "hidden"
"""Name under which the kept dimensions are recorded, beside the kept heads by layer."""

_TRIED = 7 / 8, 3 / 4, 5 / 8
"""Parts of the hidden size that a search for a target tries beside the whole; reconstructing each takes longest."""


@register
class Hidden(RankedUnits):
    """Hidden dimensions, one set for all layers; with them attention heads where their size depends on the number."""

    name: ClassVar[str] = "hidden"
    option: ClassVar[str] = "hidden"
    label: ClassVar[str] = "hidden dimensions"
    order: ClassVar[int] = 20
    ranked_by: ClassVar[Granularity | None] = "units"

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether a fraction is given, or a target for which the search can remove dimensions."""
        return bool(recipe.hidden) or (recipe.target is not None and cls.name in recipe.search)

    def groups(self, model: SentenceTransformer) -> list[UnitGroup]:
        """Return the readers of the residual stream, and the attention heads that are removed too.

        Principal axes are not ranked: they are in order.
        """
        dimensions = hidden_groups(model)
        return [*(() if self.recipe.rotate else dimensions), *heads_of(model)]

    def kept(self, model: SentenceTransformer, fraction: float) -> int:
        """Return how many dimensions are kept if a fraction is removed: a multiple of ``round_to`` and of a head."""
        multiple = math.lcm(self.recipe.round_to, head_size(model))
        return kept_of(self, transformer_of(model).config.hidden_size, fraction, multiple)

    def check(self, model: SentenceTransformer) -> None:
        """Refuse families whose hidden size cannot be changed, and numbers that the model cannot have."""
        self.groups(model)
        if self.recipe.rotate:
            check_rotation(model)
        if self.amount is not None:
            check_cut(model, self.kept(model, self.amount))

    def parameters(self, model: SentenceTransformer) -> Iterator[Tensor]:
        """Yield all parameters with an entry for every hidden dimension."""
        size = transformer_of(model).config.hidden_size
        for parameter in transformer_of(model).parameters():
            if size in parameter.shape:
                yield parameter

    def choose(self, model: SentenceTransformer, amount: float, basis: Basis) -> RemovedUnits:
        """Return the most important dimensions, and as many of the most important heads of every layer as fit them."""
        if basis.units is None:
            raise ValueError("hidden dimensions are chosen by a ranking")
        if self.recipe.rotate and not heads_of(model):
            return self.chosen(model, self.kept(model, amount), {})
        criterion = for_units(basis.criterion, basis.name)
        importances = basis.units.importances(model, criterion, basis.removed_layers, basis.keep)
        return self.chosen(model, self.kept(model, amount), importances)

    def chosen(self, model: SentenceTransformer, kept: int, importances: Mapping[str, Tensor]) -> RemovedUnits:
        """Return the choice of so many dimensions by the importances of units."""
        dimensions, heads = hidden_groups(model)[0], heads_of(model)
        order = -torch.arange(dimensions.units) if self.recipe.rotate else importances[dimensions.name]
        masks = most_important({KEPT: order.float()}, kept)
        masks |= most_important({group.name: importances[group.name] for group in heads}, kept // head_size(model))
        indices = {name: mask.nonzero().squeeze(1).tolist() for name, mask in masks.items()}
        return RemovedUnits(self.name, self.label, dimensions.units - kept, dimensions.units, indices)

    def tried(self, model: SentenceTransformer) -> list[int]:
        """Return the numbers of dimensions that a search for a target tries, the largest first."""
        size = transformer_of(model).config.hidden_size
        if self.amount is not None:
            return [self.kept(model, self.amount)]
        multiple = math.lcm(self.recipe.round_to, head_size(model))
        sizes = {round(size * part / multiple) * multiple for part in _TRIED}
        return [size, *sorted((each for each in sizes if 0 < each < size), reverse=True)]

    def cut(self, model: SentenceTransformer, choice: RemovedUnits) -> SentenceTransformer:
        """Return a narrower copy of ``model``, with a linear head back to the width of its embeddings."""
        child = remove_hidden(model, choice.kept[KEPT], _heads(choice))
        if self.recipe.rotate:
            _lengthen_norms(child, choice.total)
        return child

    def outputs(self, model: SentenceTransformer, choice: RemovedUnits) -> Mapping[str, Tensor]:
        """Return the kept dimensions of what is written to the residual stream, and the rows of kept heads."""
        return kept_outputs(model, hidden_groups(model), choice.kept[KEPT], _heads(choice))


@torch.no_grad()
def _lengthen_norms(child: SentenceTransformer, total: int) -> None:
    """Multiply the scales of norms as if the removed axes had been zero: a mean over fewer dimensions is larger."""
    size = transformer_of(child).config.hidden_size
    for norm in stream_norms(child).values():
        weight = norm.get_parameter("weight")
        weight.add_(norm(torch.ones_like(weight)) * (math.sqrt(total / size) - 1))


def _heads(choice: RemovedUnits) -> dict[str, list[int]]:
    return {name: list(kept) for name, kept in choice.kept.items() if name != KEPT}
