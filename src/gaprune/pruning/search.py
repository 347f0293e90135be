"""The search for a target: how much of each kind of unit to remove for a size or a speed.

For every hidden size and number of heads that are tried, and every number of layers, there is a widest mix that
reaches the target, by a speed that is counted or was measured. What the model loses with each of these mixes is
measured, on quick reconstructions if the run reconstructs. The mix with the least degradation is chosen. Tokens that
the recipe removes count towards the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from gaprune.config.recipe import Recipe
from gaprune.config.removal import Target
from gaprune.errors import MeasurementError
from gaprune.pruning.basis import Basis
from gaprune.pruning.costs import CountedSpeed, Shape, Sizes
from gaprune.pruning.mix_effects import degradation_of_shapes
from gaprune.pruning.removable.base import RemovedUnits
from gaprune.pruning.removable.layers import Layers, rank_layers
from gaprune.pruning.spaces import Space, out_of_reach
from gaprune.util.distributed import gather
from gaprune.util.progress import track
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Mix(Shape):
    """A candidate for a target, with what it costs and what it loses."""

    parameters: int
    speedup: float
    estimated_degradation: float


class TargetChoice(Record):
    """How a target led to a shape.

    Args:
        kind: What was limited.
        limit: The limit.
        asked: Fraction of the parent's parameters, bytes or time that had to be removed.
        parent: The parent's shape.
        measured: Whether speeds were measured; otherwise they are counted operations.
        chosen: The candidate with the lowest estimated degradation.
        candidates: The widest mix that reaches the target for each number of layers, hidden dimensions and heads that
            was tried.
    """

    kind: Literal["parameters", "size", "speedup"]
    limit: float
    asked: float
    parent: Shape
    measured: bool
    chosen: Mix
    candidates: tuple[Mix, ...]


@dataclass(frozen=True)
class Plan:
    """What is removed for one result: amounts by kind, choices that the search made already, and how it went."""

    amounts: Mapping[str, Any]
    chosen: Mapping[str, RemovedUnits]
    found: TargetChoice | None


def _asked(target: Target, sizes: Sizes) -> float:
    """Return the fraction of the parent's parameters, bytes or time that the target asks to remove."""
    whole = {"parameters": sizes.parameters, "size": sizes.parameters * sizes.bytes_each}
    return 1 - (1 / target.limit if target.kind == "speedup" else target.limit / whole[target.kind])


def search(
    model: SentenceTransformer,
    target: Target,
    found: Sequence[Space],
    *,
    basis: Basis,
    recipe: Recipe,
    tokens: int | None,
) -> Plan:
    """Return the plan that reaches the target with the least degradation: everything but tokens.

    A space with fewer hidden dimensions is tried if the one before it, which has more of them, was the best so far:
    its quick reconstructions take longest.

    Args:
        model: The parent.
        target: What has to be reached.
        found: What can be chosen from.
        basis: Its criterion ranks layers and units.
        recipe: Options of the run.
        tokens: Number of tokens that are kept; ``None`` for all.

    Raises:
        ConfigError: If no mix reaches the target.
        MeasurementError: If what is measured is not finite.
    """
    whole, fewest = Shape.of(model), found[0].fewest
    ranked = rank_layers(model, basis, recipe, count=whole.layers - fewest)
    measure = degradation_of_shapes(model, basis, recipe)

    @cache
    def degradation(shape: Shape) -> float:
        return measure(shape, ranked.order[: whole.layers - shape.layers])

    candidates: list[Mix] = []
    for space in found:
        before = min((each.estimated_degradation for each in candidates), default=math.inf)
        here = _confirmed(space, degradation)
        candidates += here
        if space.whole.hidden < whole.hidden and not any(each.estimated_degradation < before for each in here):
            break
    if not candidates:
        raise out_of_reach(found, tokens)
    best = gather(_best(candidates))[0]  # the first process decides
    sizes = Sizes.of(model)
    choice = TargetChoice(
        kind=target.kind,
        limit=target.limit,
        asked=_asked(target, sizes),
        parent=whole,
        measured=not isinstance(found[0].speed, CountedSpeed),
        chosen=best,
        candidates=tuple(candidates),
    )
    removed = whole.layers - best.layers
    amounts: dict[str, Any] = {"depth": removed} if removed else {}
    for kind in ("width", "hidden", "heads"):
        kept, total = getattr(best, kind), getattr(whole, kind)
        if kept != total:
            amounts[kind] = 1 - kept / total
    return Plan(amounts, {Layers.name: ranked.first(removed)}, choice)


def _best(candidates: Sequence[Mix]) -> Mix:
    return min(candidates, key=lambda each: each.estimated_degradation)


def _confirmed(space: Space, degradation: Callable[[Shape], float]) -> list[Mix]:
    """Return the widest shapes for each number of layers, for a speed that is right about the best of them.

    Raises:
        MeasurementError: If a degradation is not finite.
    """
    while shapes := list(space.shapes()):
        mixes = [_priced(space, shape, degradation(shape)) for shape in track(shapes, "Measuring mixes")]
        if not all(math.isfinite(each.estimated_degradation) for each in mixes):
            raise MeasurementError(
                "The loss is not finite without some layers or neurons.",
                "Load the model in float32 or bfloat16 (--set dtype=float32).",
            )
        if space.speed.confirms(_best(mixes)):
            return mixes
    return []


def _priced(space: Space, shape: Shape, degradation: float) -> Mix:
    """Return a shape with its costs."""
    return Mix(
        **shape.model_dump(include=set(Shape.model_fields)),
        parameters=space.sizes.left(shape),
        speedup=space.speed.speedup(shape),
        estimated_degradation=degradation,
    )
