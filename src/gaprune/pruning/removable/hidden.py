"""Hidden dimensions: the width of the residual stream, of the embedding tables and of all that reads or writes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from gaprune.criteria.base import Granularity, for_units
from gaprune.models.blocks import transformer_of
from gaprune.models.hidden import head_size, heads_of, hidden_groups
from gaprune.models.units import UnitGroup
from gaprune.pruning.basis import Basis
from gaprune.pruning.cut_hidden import check_cut, kept_outputs, remove_hidden
from gaprune.pruning.removable.base import RemovedUnits, register
from gaprune.pruning.removable.units import RankedUnits, kept_of, most_important

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Hidden"]

_KEPT = "hidden"
"""Name under which the kept dimensions are recorded, beside the kept heads by layer."""


@register
class Hidden(RankedUnits):
    """Hidden dimensions, one set for all layers; with them attention heads where their size depends on the number."""

    name: ClassVar[str] = "hidden"
    option: ClassVar[str] = "hidden"
    label: ClassVar[str] = "hidden dimensions"
    order: ClassVar[int] = 20
    ranked_by: ClassVar[Granularity | None] = "units"

    def groups(self, model: SentenceTransformer) -> list[UnitGroup]:
        """Return the readers of the residual stream, and the attention heads that are removed too."""
        return [*hidden_groups(model), *heads_of(model)]

    def kept(self, model: SentenceTransformer, fraction: float) -> int:
        """Return how many dimensions are kept if a fraction is removed: a multiple of ``round_to`` and of a head."""
        multiple = math.lcm(self.recipe.round_to, head_size(model))
        return kept_of(self, transformer_of(model).config.hidden_size, fraction, multiple)

    def check(self, model: SentenceTransformer) -> None:
        """Refuse families whose hidden size cannot be changed, and numbers that the model cannot have."""
        self.groups(model)
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
        importances = basis.units.importances(model, for_units(basis.criterion, basis.name), basis.removed_layers)
        return self.chosen(model, self.kept(model, amount), importances)

    def chosen(self, model: SentenceTransformer, kept: int, importances: Mapping[str, Tensor]) -> RemovedUnits:
        """Return the choice of so many dimensions by the importances of units."""
        dimensions, heads = hidden_groups(model)[0], heads_of(model)
        masks = most_important({_KEPT: importances[dimensions.name]}, kept)
        masks |= most_important({group.name: importances[group.name] for group in heads}, kept // head_size(model))
        indices = {name: mask.nonzero().squeeze(1).tolist() for name, mask in masks.items()}
        return RemovedUnits(self.name, self.label, dimensions.units - kept, dimensions.units, indices)

    def first(self, model: SentenceTransformer) -> SentenceTransformer:
        """Return ``model`` with as many dimensions as the recipe asks for, the first: to count what is left."""
        kept = self.kept(model, next(iter(self.recipe.hidden)))
        heads = {group.name: range(kept // head_size(model)) for group in heads_of(model)}
        return remove_hidden(model, range(kept), heads)

    def cut(self, model: SentenceTransformer, choice: RemovedUnits) -> SentenceTransformer:
        """Return a narrower copy of ``model``, with a linear head back to the width of its embeddings."""
        return remove_hidden(model, choice.kept[_KEPT], _heads(choice))

    def outputs(self, model: SentenceTransformer, choice: RemovedUnits) -> Mapping[str, Tensor]:
        """Return the kept dimensions of what is written to the residual stream, and the rows of kept heads."""
        return kept_outputs(model, hidden_groups(model), choice.kept[_KEPT], _heads(choice))


def _heads(choice: RemovedUnits) -> dict[str, list[int]]:
    return {name: list(kept) for name, kept in choice.kept.items() if name != _KEPT}
