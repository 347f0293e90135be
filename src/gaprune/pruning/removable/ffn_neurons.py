"""Neurons of the feed-forward networks: the intermediate width of every layer."""

from __future__ import annotations

from typing import ClassVar, Literal

from gaprune.config.recipe import Recipe
from gaprune.pruning.removable.base import register
from gaprune.pruning.removable.units import Units


@register
class FFNNeurons(Units):
    """FFN neurons; the kept number is a multiple that hardware likes."""

    name: ClassVar[str] = "width"
    option: ClassVar[str] = "width"
    label: ClassVar[str] = "FFN neurons per layer"
    kind: ClassVar[Literal["width", "heads"]] = "width"

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether a fraction is given, or a target for which the search can remove neurons."""
        return bool(recipe.width) or recipe.target is not None

    @property
    def multiple(self) -> int:
        """The recipe's ``round_to``."""
        return self.recipe.round_to
