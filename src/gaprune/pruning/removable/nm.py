"""N:M patterns: N of every M consecutive inputs are kept, which some kernels make use of."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gaprune.config.recipe import Recipe
from gaprune.pruning.removable.base import register
from gaprune.pruning.removable.weights import Weights
from gaprune.util.threshold import check_pattern

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@register
class NM(Weights):
    """Weights in an N:M pattern, which says how many are removed."""

    name: ClassVar[str] = "N:M"
    label: ClassVar[str] = "weights in a pattern"

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether the granularity is a pattern."""
        return recipe.pattern is not None

    @property
    def pattern(self) -> tuple[int, int] | None:
        """The recipe's."""
        return self.recipe.pattern

    def check(self, model: SentenceTransformer) -> None:
        """Refuse linear layers whose inputs do not divide into groups of M."""
        for layer in self.selected(model):
            if self.pattern is not None:
                check_pattern(layer.module.in_features, self.pattern, name=layer.name)
