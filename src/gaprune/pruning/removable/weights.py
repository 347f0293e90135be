"""Single weights: the least important become exact zeros, in no pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Granularity
from gaprune.models.linear_layers import LinearLayer, linear_layers, select
from gaprune.pruning.allocation import budget
from gaprune.pruning.basis import Basis
from gaprune.pruning.removable.base import Removable, register
from gaprune.pruning.zeros import Pruning, apply

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@register
class Weights(Removable[Pruning]):
    """Weights of the selected linear layers."""

    name: ClassVar[str] = "weight"
    option: ClassVar[str] = "sparsity"
    label: ClassVar[str] = "weights"
    order: ClassVar[int] = 50
    ranked_by: ClassVar[Granularity | None] = "weights"
    is_structured: ClassVar[bool] = False

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether single weights are removed in no pattern."""
        return recipe.granularity == cls.name

    @property
    def pattern(self) -> tuple[int, int] | None:
        """``(N, M)`` if N of every M inputs are kept."""
        return None

    def selected(self, model: SentenceTransformer) -> list[LinearLayer]:
        """Return the linear layers that the recipe selects."""
        return select(linear_layers(model), self.recipe.targets, self.recipe.ignore)

    def measured(self, model: SentenceTransformer) -> list[LinearLayer]:
        """Return the linear layers that the recipe selects."""
        return self.selected(model)

    def check(self, model: SentenceTransformer) -> None:
        """Refuse a selection without linear layers."""
        self.selected(model)

    def parameters(self, model: SentenceTransformer) -> Iterator[Tensor]:
        """Yield the weights of the selected linear layers."""
        for layer in self.selected(model):
            yield layer.module.weight

    def choose(self, model: SentenceTransformer, amount: float, basis: Basis) -> Pruning:
        """Return the decision at a sparsity, by the scores; the number of zeros is exact."""
        if basis.scores is None:
            raise ValueError("weights are chosen by scores")
        weights = {
            layer.name: layer.module.weight.detach()
            for layer in linear_layers(model)
            if layer.name in basis.scores.importances
        }
        pruning = basis.scores.decide(
            weights, sparsity=amount, allocation=self.recipe.allocation, pattern=self.pattern
        )
        if pruning.zeros != budget(amount, pruning.size):
            raise RuntimeError(f"{pruning.zeros:,} weights were chosen, and {amount:g} of {pruning.size:,} asked for")
        return pruning

    def cut(self, model: SentenceTransformer, choice: Pruning) -> SentenceTransformer:
        """Return ``model`` itself, with zeros."""
        return apply(model, choice, inplace=True)
