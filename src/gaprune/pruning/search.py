"""The search for a target: how many layers and neurons to remove for a size or a speed, by measured curves.

Tokens and hidden dimensions that the recipe removes count towards the target.

The degradation of the model is measured without more and more layers, and without more and more neurons. That of a
combination is estimated by the sum of the two. The combination that reaches the target with the least estimated
degradation is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from gaprune.config.recipe import Recipe
from gaprune.config.removal import Target
from gaprune.criteria.base import for_layers, for_units
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.basis import Basis
from gaprune.pruning.calibration import effect_triplets
from gaprune.pruning.removable.base import RemovedUnits
from gaprune.pruning.removable.layers import Layers, most_removable, rank_layers
from gaprune.pruning.removable.units import most_important
from gaprune.statistics.degradation import ReferenceOutputs, skipping
from gaprune.util.distributed import gather
from gaprune.util.progress import track
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Mix", "Plan", "Size", "TargetChoice", "check_target", "search"]

_FRACTIONS = (0.25, 0.5, 0.75, 0.9)
"""Fractions of the neurons without which the degradation is measured, beside the largest possible one."""

Degradation = Callable[[Collection[int], Mapping[str, Tensor]], float]
"""Returns what the model loses without some layers and with these units kept, ``(units,)`` by name of the group."""


@dataclass(frozen=True)
class Costs:
    """Sizes of a model, from which those of its children follow.

    Args:
        whole: Weights of the linear layers in the parent's blocks, two operations per token each.
        parameters: Parameters of the parent, or of the parent with fewer hidden dimensions; so for all that follows.
        bytes_each: Bytes of a parameter.
        layers: Number of layers.
        block: Parameters of a layer.
        block_weights: Weights of the linear layers of a layer, two operations per token each.
        units: FFN neurons of a layer.
        unit: Parameters of a neuron.
        unit_weights: Weights of a neuron, two operations per token each.
        rows: Rows of the embedding table.
        row: Parameters of a row.
    """

    whole: int
    parameters: int
    bytes_each: int
    layers: int
    block: int
    block_weights: int
    units: int
    unit: int
    unit_weights: int
    rows: int
    row: int

    @classmethod
    def of(cls, parent: SentenceTransformer, narrow: SentenceTransformer | None = None) -> Self:
        """Return the costs of a parent, or of what it is with fewer hidden dimensions."""
        model = narrow or parent
        groups = unit_groups(model, "width")
        parameters = list(model.parameters())
        found = blocks(model)
        table: Tensor = transformer_of(model).get_input_embeddings().get_parameter("weight")
        return cls(
            whole=sum(each.module.weight.numel() for each in linear_layers(parent) if each.layer is not None),
            parameters=sum(each.numel() for each in parameters),
            bytes_each=parameters[0].element_size(),
            layers=len(found),
            block=sum(each.numel() for each in found[-1].parameters()),
            block_weights=sum(m.module.weight.numel() for m in linear_layers(model) if m.layer == len(found) - 1),
            units=groups[0].units,
            unit=groups[0].parameters,
            unit_weights=groups[0].weights,
            rows=table.shape[0],
            row=table.shape[1],
        )

    def left(self, *, depth: int, width: int, tokens: int) -> int:
        """Return the parameters without ``depth`` layers, with ``width`` neurons per layer and so many tokens."""
        neurons = (self.layers - depth) * (self.units - width) * self.unit
        return self.parameters - depth * self.block - neurons - (self.rows - tokens) * self.row

    def speedup(self, *, depth: int, width: int) -> float:
        """Return the factor by which the operations per token in the layers' linear layers are fewer."""
        block = self.block_weights - (self.units - width) * self.unit_weights
        return self.whole / ((self.layers - depth) * block)


class Size(Record):
    """Number of layers, FFN neurons per layer and tokens."""

    depth: int
    width: int
    tokens: int


class Mix(Size):
    """A candidate for a target: ``depth`` layers are removed, ``width`` neurons per layer and ``tokens`` are kept."""

    parameters: int
    speedup: float
    estimated_degradation: float


class TargetChoice(Record):
    """How a target led to numbers of layers and neurons.

    ``asked`` is the fraction of the parent's parameters, bytes or operations that had to be removed, ``chosen`` the
    candidate with the lowest estimated degradation; the curves are the degradation that was measured by number of
    removed layers and by fraction of removed neurons.
    """

    kind: Literal["parameters", "size", "speedup"]
    limit: float
    asked: float
    parent: Size
    chosen: Mix
    candidates: tuple[Mix, ...]
    degradation_by_depth: tuple[float, ...]
    degradation_by_width: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What is removed for one result: amounts by kind, choices that the search made already, and how it went."""

    amounts: Mapping[str, Any]
    chosen: Mapping[str, RemovedUnits]
    found: TargetChoice | None


def check_target(
    target: Target,
    model: SentenceTransformer,
    *,
    round_to: int,
    tokens: int | None,
    narrow: SentenceTransformer | None = None,
) -> None:
    """Refuse a target that is out of reach, or that the parent reaches as it is.

    Args:
        target: What has to be reached.
        model: The parent.
        round_to: The fewest neurons that are kept.
        tokens: Number of tokens that are kept; ``None`` for all.
        narrow: The parent with the hidden dimensions that are kept; ``None`` for all.

    Raises:
        ConfigError: If no combination reaches the target, or nothing has to be removed.
    """
    costs = Costs.of(model, narrow)
    if round_to > costs.units:
        raise ConfigError(
            f"round_to: {round_to} is more than the {costs.units} FFN neurons of a layer.",
            "Choose a smaller round_to (--set round_to=8).",
        )
    rows = costs.rows if tokens is None else tokens
    depth = most_removable(model)
    if not _is_met(target, costs, depth=depth, width=round_to, tokens=rows):
        raise ConfigError(
            f"target: {target} is out of reach: {costs.left(depth=depth, width=round_to, tokens=rows):,} parameters "
            f"and a speedup of {costs.speedup(depth=depth, width=round_to):.1f} are the limits of removing layers and "
            "neurons.",
            _remedy(target, tokens),
        )
    whole = Costs.of(model)
    if _is_met(target, whole, depth=0, width=whole.units, tokens=whole.rows):
        raise ConfigError(f"target: the parent reaches {target} as it is.", "Ask for a smaller model.")


def _remedy(target: Target, tokens: int | None) -> str:
    if target.kind == "speedup":
        return "Ask for less, or keep fewer neurons: a smaller round_to (--set round_to=8)."
    if tokens is None:
        return "Ask for less, or remove tokens too: --vocabulary FILE."
    return "Ask for less, or remove tokens that are rare in your texts: --set tokens=0.9."


def _is_met(target: Target, costs: Costs, *, depth: int, width: int, tokens: int) -> bool:
    """Return whether a combination reaches the target."""
    left = costs.left(depth=depth, width=width, tokens=tokens)
    if target.kind == "speedup":
        return costs.speedup(depth=depth, width=width) >= target.limit
    return left * (costs.bytes_each if target.kind == "size" else 1) <= target.limit


def _asked(target: Target, costs: Costs) -> float:
    """Return the fraction of the parent's parameters, bytes or operations that the target asks to remove."""
    whole = {"parameters": costs.parameters, "size": costs.parameters * costs.bytes_each}
    return 1 - (1 / target.limit if target.kind == "speedup" else target.limit / whole[target.kind])


def search(
    model: SentenceTransformer,
    target: Target,
    *,
    basis: Basis,
    recipe: Recipe,
    tokens: int | None,
    narrow: SentenceTransformer | None = None,
) -> Plan:
    """Return the plan that reaches the target with the least estimated degradation, of layers and neurons alone.

    Raises:
        MeasurementError: If what is measured is not finite.
    """
    if basis.units is None:
        raise ValueError("the search needs a ranking of units")
    groups = unit_groups(model, "width")
    costs = Costs.of(model, narrow)
    importances = basis.units.importances(model, for_units(basis.criterion, basis.name))
    ranked = rank_layers(model, basis, recipe, count=most_removable(model))
    degradation = _degradation(model, groups, basis, recipe)
    depths = range(1, len(ranked.order) + 1)
    by_depth = [0.0, *(degradation(ranked.order[:each], {}) for each in track(depths, "Measuring depths"))]
    narrowest = 1 - recipe.round_to / costs.units
    widths = sorted({0.0, *(each for each in _FRACTIONS if each < narrowest), narrowest})
    kept = [round(costs.units * (1 - each)) for each in widths[1:]]
    by_width = [
        0.0,
        *(degradation((), most_important(importances, each)) for each in track(kept, "Measuring widths")),
    ]
    if not all(map(math.isfinite, (*by_depth, *by_width))):
        raise MeasurementError(
            "The loss is not finite without some layers or neurons.",
            "Load the model in float32 or bfloat16 (--set dtype=float32).",
        )
    lost_by_width = partial(np.interp, xp=widths, fp=by_width)
    candidates = _candidates(target, costs, by_depth, lost_by_width, recipe.round_to, tokens)
    best = gather(min(candidates, key=lambda each: each.estimated_degradation))[0]  # the first process decides
    found = TargetChoice(
        kind=target.kind,
        limit=target.limit,
        asked=_asked(target, Costs.of(model)),
        parent=Size(depth=costs.layers, width=costs.units, tokens=costs.rows),
        chosen=best,
        candidates=tuple(candidates),
        degradation_by_depth=tuple(by_depth),
        degradation_by_width=dict(zip(map(str, widths), by_width, strict=True)),
    )
    amounts: dict[str, Any] = {}
    if best.depth:
        amounts["depth"] = best.depth
    if best.width < costs.units:
        amounts["width"] = 1 - best.width / costs.units
    return Plan(amounts, {Layers.name: ranked.first(best.depth)}, found)


def _degradation(model: SentenceTransformer, groups: Sequence[UnitGroup], basis: Basis, recipe: Recipe) -> Degradation:
    """Return the function that measures: on quick reconstructions, or on the model with parts switched off."""
    triplets = effect_triplets(basis.calibration, recipe, {"domain"}, basis.held_out)
    whole = ReferenceOutputs(model, triplets["domain"], prompts=basis.calibration.prompts, options=recipe)
    preservation = for_layers(basis.criterion, basis.name).preservation_weight

    def degradation(removed_layers: Collection[int], keep: Mapping[str, Tensor]) -> float:
        columns = {
            group.name: keep[group.name].repeat_interleave(group.consumer.columns_per_unit)
            for group in groups
            if group.name in keep
        }
        if basis.quick is not None:
            return whole.degradation(basis.quick(removed_layers, columns), preservation=preservation)
        with skipping(model, removed_layers), _switched_off(groups, columns):
            return whole.degradation(preservation=preservation)

    return degradation


def _candidates(
    target: Target,
    costs: Costs,
    by_depth: Sequence[float],
    lost_by_width: Callable[[float], float],
    round_to: int,
    tokens: int | None,
) -> list[Mix]:
    """Return for every depth the widest combination that reaches the target, if any does."""
    rows = costs.rows if tokens is None else tokens
    widths = {costs.units, *range(round_to, costs.units, round_to)}
    found = []
    for depth, lost in enumerate(by_depth):
        met = [width for width in widths if _is_met(target, costs, depth=depth, width=width, tokens=rows)]
        if met:
            width = max(met)
            found.append(
                Mix(
                    depth=depth,
                    width=width,
                    tokens=rows,
                    parameters=costs.left(depth=depth, width=width, tokens=rows),
                    speedup=costs.speedup(depth=depth, width=width),
                    estimated_degradation=lost + float(lost_by_width(1 - width / costs.units)),
                )
            )
    return found


@contextmanager
def _switched_off(groups: Sequence[UnitGroup], columns: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the linear layers that consume units see zeros in the columns that are not kept."""

    def hook(mask: Tensor) -> Any:
        def switch(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.where(mask.to(args[0].device), args[0], 0), *args[1:])

        return switch

    with ExitStack() as stack:
        for group in groups if columns else ():
            stack.callback(group.consumer.module.register_forward_pre_hook(hook(columns[group.name])).remove)
        yield
