"""Which units go: layers by what skipping them does, heads and neurons by their importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import LayerCriterion, UnitCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.blocks import blocks, removable_layers
from gaprune.models.units import UnitGroup
from gaprune.pruning.calibration import Calibration
from gaprune.reconstruction.reconstruct import quick_reconstruction
from gaprune.reconstruction.split import split
from gaprune.statistics.degradation import layer_effects
from gaprune.statistics.sums import Statistics
from gaprune.util.distributed import gather
from gaprune.util.threshold import lowest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplets

__all__ = ["LayerChoice", "choose_layers", "choose_units", "layer_triplets", "unit_importances"]


class LayerChoice:
    """Layers in the order in which they go.

    Args:
        order: Indices, the least important first.
        found: What the order rests on, for the provenance.
    """

    def __init__(self, order: Sequence[int], found: Mapping[str, Any]) -> None:
        self.order = tuple(order)
        self.found = found

    def first(self, count: int) -> LayerChoice:
        """Return the choice of fewer layers."""
        return LayerChoice(self.order[:count], self.found)


def choose_layers(
    model: SentenceTransformer,
    criterion: LayerCriterion,
    calibration: Calibration,
    recipe: Recipe,
    *,
    count: int,
    reconstructs: bool,
) -> LayerChoice:
    """Return the layers that go, the least important first.

    Args:
        model: The parent.
        criterion: Scores the layers.
        calibration: Triplets; layers are left out on ``recipe.layer_triplets`` of each kind.
        recipe: Whether effects are measured again after each layer (``greedy``), loss and seed.
        count: How many go.
        reconstructs: Whether the result is reconstructed: then an effect is what reconstruction cannot undo.

    Raises:
        ConfigError: If fewer can go.
    """
    can_go = removable_layers(model)
    if count > min(len(can_go), len(blocks(model)) - 1):
        raise ConfigError(
            f"depth: {count} layers cannot go, only {min(len(can_go), len(blocks(model)) - 1)} of "
            f"{len(blocks(model))} can.",
            "Remove fewer.",
        )
    gone: list[int] = []
    rounds = []
    while len(gone) < count:
        left = [layer for layer in can_go if layer not in gone]
        evidence = _layer_evidence(model, criterion, calibration, recipe, left, gone, reconstructs=reconstructs)
        importance = {each.layer: criterion.layer_importance(each) for each in evidence}
        order = gather(sorted(left, key=lambda layer: importance[layer]))[0]  # the first process decides for all
        gone += order[:1] if recipe.greedy else order[:count]
        rounds.append({"importance": importance, "effects": [_effects(each) for each in evidence]})
    return LayerChoice(gone, {"rounds": rounds})


def _layer_evidence(
    model: SentenceTransformer,
    criterion: LayerCriterion,
    calibration: Calibration,
    recipe: Recipe,
    layers: Sequence[int],
    gone: Sequence[int],
    *,
    reconstructs: bool,
) -> list[LayerInputs]:
    wanted: dict[str, Triplets] = {
        kind: triplets
        for kind, triplets in (("domain", calibration.domain), ("general", calibration.general))
        if kind in criterion.layer_needs and triplets is not None
    }
    effects = (
        layer_effects(
            model,
            layer_triplets(wanted, calibration, recipe, reconstructs=reconstructs),
            layers=layers,
            prompts=calibration.prompts,
            options=recipe,
            skipped=gone,
            without=partial(quick_reconstruction, model, calibration, recipe) if reconstructs else None,
        )
        if wanted
        else {}
    )
    squares = [
        sum(float(weight.detach().float().square().sum()) for weight in block.parameters()) for block in blocks(model)
    ]
    return [
        LayerInputs(
            layer,
            squares[layer],
            **{kind: found[layer] for kind, found in effects.items()},
            seed=recipe.seed,
        )
        for layer in layers
    ]


def layer_triplets(
    wanted: Mapping[str, Triplets], calibration: Calibration, recipe: Recipe, *, reconstructs: bool
) -> dict[str, Triplets]:
    """Return the few triplets of each kind that effects are measured on; repair, where it runs, does not see them."""
    if reconstructs:
        _, judged = split(calibration, recipe)
        return {kind: judged[kind][: recipe.layer_triplets] for kind in wanted}
    return {
        kind: triplets.take(min(recipe.layer_triplets, len(triplets)), seed=recipe.seed)
        for kind, triplets in wanted.items()
    }


def _effects(evidence: LayerInputs) -> dict[str, Any]:
    return {
        "layer": evidence.layer,
        "domain": None if evidence.domain is None else asdict(evidence.domain),
        "general": None if evidence.general is None else asdict(evidence.general),
    }


def unit_importances(
    groups: Sequence[UnitGroup],
    criterion: UnitCriterion,
    *,
    domain: Statistics | None,
    general: Statistics | None,
    seed: int,
) -> dict[str, Tensor]:
    """Return the importance of every unit, ``(units,)`` by name of the group.

    Raises:
        SignalError: If one is not finite; it names the group.
    """
    importances = {}
    for group in groups:
        weight = group.consumer.module.weight.detach().float()
        evidence = UnitInputs(
            name=group.name,
            weight=weight.view(len(weight), group.units, group.consumer.columns_per_unit),
            producer_square=_producer_square(group),
            domain=None if domain is None else domain[group.name],
            general=None if general is None else general[group.name],
            seed=seed,
        )
        importances[group.name] = criterion.unit_importance(evidence)
        if not torch.isfinite(importances[group.name]).all():
            raise MeasurementError(
                f"{group.name}: the importance of its units is not finite.", "Check the model, or use more triplets."
            )
    return importances


def _producer_square(group: UnitGroup) -> Tensor:
    """Return the sum of squares of the weights that feed each unit, ``(units,)``."""
    total = torch.zeros(group.units, device=group.consumer.module.weight.device)
    for producer in group.producers:
        weight = producer.matrix.module.weight.detach().float()
        total += weight.view(producer.parts, group.units, producer.rows, -1).square().sum((0, 2, 3))
    return total


def choose_units(importances: Mapping[str, Tensor], kept: int) -> dict[str, Tensor]:
    """Return which units stay: the ``kept`` most important of every group, ``(units,)`` by name."""
    return {name: ~lowest(values.cpu(), len(values) - kept) for name, values in importances.items()}
