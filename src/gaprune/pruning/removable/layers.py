"""Whole layers, ranked by what the model loses without them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Granularity, LayerCriterion, for_layers
from gaprune.criteria.inputs import LayerInputs
from gaprune.errors import ConfigError, ModelError
from gaprune.models.blocks import blocks, removable_layers
from gaprune.models.checks import check_blocks
from gaprune.pruning.basis import Basis
from gaprune.pruning.calibration import effect_triplets
from gaprune.pruning.cut import remove_layers
from gaprune.pruning.removable.base import Removable, RemovedUnits, register
from gaprune.pruning.removable.trial import check_alike, embedded
from gaprune.statistics.degradation import LayerEffect, layer_effects, skipping
from gaprune.util.distributed import gather

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@register
class Layers(Removable[RemovedUnits]):
    """Layers; they are removed first, and units are chosen in the shallower model."""

    name: ClassVar[str] = "depth"
    option: ClassVar[str] = "depth"
    label: ClassVar[str] = "layers"
    order: ClassVar[int] = 10
    ranked_by: ClassVar[Granularity | None] = "layers"

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether a number is given, or a target for which the search can remove layers."""
        return bool(recipe.depth) or recipe.target is not None

    def check(self, model: SentenceTransformer) -> None:
        """Refuse numbers of layers that the model cannot lose, and models that depend on that number."""
        from sentence_transformers.sentence_transformer.modules import WeightedLayerPooling

        check_blocks(model, streamed=True)
        pooling = next((name for name, each in model.named_modules() if isinstance(each, WeightedLayerPooling)), None)
        if pooling is not None:
            raise ModelError(
                f"Module {pooling}, a WeightedLayerPooling, has a weight for each layer, so no layer can be removed.",
                "Remove neurons or tokens instead (--width, --vocabulary); targets remove layers too.",
            )
        most, total = most_removable(model), len(blocks(model))
        if self.amount is not None and self.amount > most:
            raise ConfigError(
                f"depth: {self.amount} of {total} layers cannot be removed; at most {most} can.",
                "Remove fewer layers.",
            )
        first = removable_layers(model)[:1] if most else ()
        if first:
            with skipping(model, first):
                masked = embedded(model)
            check_alike(masked, remove_layers(model, first, share=True), self.label, shorter_sums=False)

    def parameters(self, model: SentenceTransformer) -> Iterator[Tensor]:
        """Yield all parameters of all layers."""
        for block in blocks(model):
            yield from block.parameters()

    def choose(self, model: SentenceTransformer, amount: int, basis: Basis) -> RemovedUnits:
        """Return the layers whose removal costs least."""
        return rank_layers(model, basis, self.recipe, count=amount).first(amount)

    def cut(self, model: SentenceTransformer, choice: RemovedUnits) -> SentenceTransformer:
        """Return a shallower copy of ``model``."""
        return remove_layers(model, choice.removed_layers)


@dataclass(frozen=True)
class RankedLayers:
    """Layers in the order in which they are removed.

    Args:
        order: Indices, the least important first.
        total: Number of layers of the model.
        found: What the order rests on, for the provenance.
    """

    order: tuple[int, ...]
    total: int
    found: Mapping[str, Any]

    def first(self, count: int) -> RemovedUnits:
        """Return the choice of the first ``count`` layers."""
        removed = self.order[:count]
        kept = [layer for layer in range(self.total) if layer not in removed]
        return RemovedUnits(Layers.name, Layers.label, len(removed), self.total, {"layers": kept}, self.found)


def most_removable(model: SentenceTransformer) -> int:
    """Return how many layers can be removed at most."""
    return min(len(removable_layers(model)), len(blocks(model)) - 1)


def rank_layers(model: SentenceTransformer, basis: Basis, recipe: Recipe, *, count: int) -> RankedLayers:
    """Return at least ``count`` layers in the order in which they are removed.

    Args:
        model: The parent.
        basis: Its criterion scores the layers. If it has a quick reconstruction, an effect is what that leaves.
        recipe: Number of triplets, loss and seed; whether effects are measured again after each layer (``greedy``).
        count: How many are removed.
    """
    candidates, criterion = removable_layers(model), for_layers(basis.criterion, basis.name)
    removed: list[int] = []
    rounds = []
    while len(removed) < count:
        left = [layer for layer in candidates if layer not in removed]
        inputs = _layer_inputs(model, criterion, basis, recipe, left, removed)
        importance = {each.layer: criterion.layer_importance(each) for each in inputs}
        order = gather(sorted(left, key=lambda layer: importance[layer]))[0]  # the first process decides for all
        at_once = 1 if recipe.greedy else max(1, math.ceil(count / recipe.rounds))
        removed += order[:at_once]
        rounds.append({"importance": importance, "effects": [_effects(each) for each in inputs]})
    return RankedLayers(tuple(removed), len(blocks(model)), {"rounds": rounds})


def _layer_inputs(
    model: SentenceTransformer,
    criterion: LayerCriterion,
    basis: Basis,
    recipe: Recipe,
    layers: Sequence[int],
    removed: Sequence[int],
) -> list[LayerInputs]:
    """Return what the criterion looks at for each of ``layers``, beside those that are removed already."""
    quick = basis.quick
    triplets = effect_triplets(basis.calibration, recipe, criterion.layer_needs, basis.held_out)
    effects: dict[str, dict[int, LayerEffect]] = {}
    if triplets and quick is not None:
        effects = quick.layer_effects(triplets, layers, removed)
    elif triplets:
        effects = layer_effects(
            model,
            triplets,
            layers=layers,
            prompts=basis.calibration.prompts,
            options=recipe,
            skipped=removed,
        )
    squares = [
        sum(float(weight.detach().float().square().sum()) for weight in block.parameters()) for block in blocks(model)
    ]
    return [
        LayerInputs(layer, squares[layer], **{kind: found[layer] for kind, found in effects.items()}, seed=recipe.seed)
        for layer in layers
    ]


def _effects(inputs: LayerInputs) -> dict[str, Any]:
    return {
        "layer": inputs.layer,
        "domain": None if inputs.domain is None else asdict(inputs.domain),
        "general": None if inputs.general is None else asdict(inputs.general),
    }
