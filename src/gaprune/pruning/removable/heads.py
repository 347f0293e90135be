"""Attention heads, in groups that share keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gaprune.config.recipe import Recipe
from gaprune.pruning.removable.base import register
from gaprune.pruning.removable.units import Units

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TRIED = 3 / 4, 1 / 2
"""Parts of the heads that a search for a target tries beside all of them."""


@register
class Heads(Units):
    """Attention heads by key/value group."""

    name: ClassVar[str] = "heads"
    option: ClassVar[str] = "heads"
    label: ClassVar[str] = "attention head groups per layer"
    kind: ClassVar[Literal["width", "heads"]] = "heads"

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether a fraction is given, or a target for which the search can remove heads."""
        return bool(recipe.heads) or (recipe.target is not None and cls.name in recipe.search)

    def tried(self, model: SentenceTransformer) -> list[int]:
        """Return the numbers of heads that a search for a target tries, the largest first."""
        heads = self.groups(model)[0].units
        return sorted({heads, *(max(1, round(heads * part)) for part in _TRIED)}, reverse=True)

    @property
    def multiple(self) -> int:
        """Every number of heads is allowed."""
        return 1
