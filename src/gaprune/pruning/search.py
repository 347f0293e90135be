"""The search for a target: how many layers and neurons to remove for a size or a speed.

For every number of layers there is a widest mix that reaches the target, by a speed that is counted or was measured.
What the model loses with each of these mixes is measured, on quick reconstructions if the run reconstructs. The mix
with the least degradation is chosen. Tokens and hidden dimensions that the recipe removes count towards the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from gaprune.config.recipe import Recipe
from gaprune.config.removal import Target
from gaprune.criteria.base import for_layers, for_units
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.basis import Basis
from gaprune.pruning.calibration import effect_triplets
from gaprune.pruning.costs import CountedSpeed, Shape, Sizes, SpeedOfShapes, is_met
from gaprune.pruning.removable.base import RemovedUnits
from gaprune.pruning.removable.layers import Layers, most_removable, rank_layers
from gaprune.pruning.removable.units import most_important
from gaprune.statistics.degradation import ReferenceOutputs, skipping
from gaprune.util.distributed import gather
from gaprune.util.progress import track
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Mix", "Plan", "TargetChoice", "check_target", "search"]

Degradation = Callable[[Collection[int], Mapping[str, Tensor]], float]
"""Returns what the model loses without some layers and with these units kept, ``(units,)`` by name of the group."""


class Mix(Shape):
    """A candidate for a target, with what it costs and what it loses."""

    parameters: int
    speedup: float
    estimated_degradation: float


class TargetChoice(Record):
    """How a target led to numbers of layers and neurons.

    Args:
        kind: What was limited.
        limit: The limit.
        asked: Fraction of the parent's parameters, bytes or time that had to be removed.
        parent: The parent's shape.
        measured: Whether speeds were measured; otherwise they are counted operations.
        chosen: The candidate with the lowest estimated degradation.
        candidates: The widest mix that reaches the target, for each number of layers.
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


@dataclass(frozen=True)
class _Space:
    """The shapes that a search can choose from.

    Args:
        target: What has to be reached.
        sizes: Sizes of the parent with the hidden dimensions that are kept.
        speed: How fast a shape is.
        fewest: The fewest layers that can be left.
        round_to: The fewest neurons that are kept, and the step between numbers of neurons.
        tokens: Number of tokens that are kept.
    """

    target: Target
    sizes: Sizes
    speed: SpeedOfShapes
    fewest: int
    round_to: int
    tokens: int

    @classmethod
    def of(
        cls,
        target: Target,
        model: SentenceTransformer,
        *,
        round_to: int,
        tokens: int | None,
        narrow: SentenceTransformer | None,
        speed: SpeedOfShapes | None,
    ) -> _Space:
        sizes = Sizes.of(narrow or model)
        rows = sizes.whole.tokens if tokens is None else tokens
        fewest = sizes.whole.layers - most_removable(model)
        return cls(target, sizes, speed or CountedSpeed(model, sizes), fewest, round_to, rows)

    @property
    def whole(self) -> Shape:
        """The parent's shape with the tokens and hidden dimensions that are kept."""
        return self.sizes.whole.changed(tokens=self.tokens)

    @property
    def smallest(self) -> Shape:
        """The smallest shape."""
        return self.whole.changed(layers=self.fewest, width=self.round_to)

    def is_met(self, shape: Shape) -> bool:
        """Return whether a shape reaches the target."""
        return is_met(self.target, shape, self.sizes, self.speed)

    def widest(self, layers: int) -> Shape | None:
        """Return the widest shape of so many layers that reaches the target; ``None`` if none does."""
        whole = self.whole.changed(layers=layers)
        if self.is_met(whole):
            return whole
        widths = range(self.round_to, self.whole.width, self.round_to)
        return next((each for width in reversed(widths) if self.is_met(each := whole.changed(width=width))), None)

    def shapes(self) -> Iterator[Shape]:
        """Yield the widest shape for each number of layers, up to the first that keeps all neurons.

        With fewer layers than that, the target would be passed without need.
        """
        for layers in range(self.whole.layers, self.fewest - 1, -1):
            shape = self.widest(layers)
            if shape is not None:
                yield shape
                if shape.width == self.whole.width:
                    return

    def priced(self, shape: Shape, degradation: float) -> Mix:
        """Return a shape with its costs."""
        return Mix(
            **shape.model_dump(include=set(Shape.model_fields)),
            parameters=self.sizes.left(shape),
            speedup=self.speed.speedup(shape),
            estimated_degradation=degradation,
        )


def check_target(
    target: Target,
    model: SentenceTransformer,
    *,
    round_to: int,
    tokens: int | None,
    narrow: SentenceTransformer | None = None,
    speed: SpeedOfShapes | None = None,
) -> None:
    """Refuse a target that is out of reach, or that the parent reaches as it is.

    Args:
        target: What has to be reached.
        model: The parent.
        round_to: The fewest neurons that are kept.
        tokens: Number of tokens that are kept; ``None`` for all.
        narrow: The parent with the hidden dimensions that are kept; ``None`` for all.
        speed: How fast shapes are; counted by default.

    Raises:
        ConfigError: If no combination reaches the target, or nothing has to be removed.
    """
    space = _Space.of(target, model, round_to=round_to, tokens=tokens, narrow=narrow, speed=speed)
    if round_to > space.whole.width:
        raise ConfigError(
            f"round_to: {round_to} is more than the {space.whole.width} FFN neurons of a layer.",
            "Choose a smaller round_to (--set round_to=8).",
        )
    if not space.is_met(space.smallest):
        raise _out_of_reach(space, tokens)
    sizes = Sizes.of(model)
    if is_met(target, sizes.whole, sizes, CountedSpeed(model, sizes)):
        raise ConfigError(f"target: the parent reaches {target} as it is.", "Ask for a smaller model.")


def _out_of_reach(space: _Space, tokens: int | None) -> ConfigError:
    how = "" if isinstance(space.speed, CountedSpeed) else ", as measured here,"
    return ConfigError(
        f"target: {space.target} is out of reach: {space.sizes.left(space.smallest):,} parameters and a speedup of "
        f"{space.speed.speedup(space.smallest):.1f}{how} are the limits of removing layers and neurons.",
        _remedy(space.target, tokens),
    )


def _remedy(target: Target, tokens: int | None) -> str:
    if target.kind == "speedup":
        return "Ask for less, or keep fewer neurons: a smaller round_to (--set round_to=8)."
    if tokens is None:
        return "Ask for less, or remove tokens too: --vocabulary FILE."
    return "Ask for less, or remove tokens that are rare in your texts: --set tokens=0.9."


def _asked(target: Target, sizes: Sizes) -> float:
    """Return the fraction of the parent's parameters, bytes or time that the target asks to remove."""
    whole = {"parameters": sizes.parameters, "size": sizes.parameters * sizes.bytes_each}
    return 1 - (1 / target.limit if target.kind == "speedup" else target.limit / whole[target.kind])


def search(
    model: SentenceTransformer,
    target: Target,
    *,
    basis: Basis,
    recipe: Recipe,
    tokens: int | None,
    narrow: SentenceTransformer | None = None,
    speed: SpeedOfShapes | None = None,
) -> Plan:
    """Return the plan that reaches the target with the least degradation, of layers and neurons alone.

    Args:
        model: The parent.
        target: What has to be reached.
        basis: Its criterion ranks layers and neurons.
        recipe: Options of the run.
        tokens: Number of tokens that are kept; ``None`` for all.
        narrow: The parent with the hidden dimensions that are kept; ``None`` for all.
        speed: How fast shapes are; counted by default.

    Raises:
        ConfigError: If no mix reaches the target.
        MeasurementError: If what is measured is not finite.
    """
    if basis.units is None:
        raise ValueError("the search needs a ranking of units")
    space = _Space.of(target, model, round_to=recipe.round_to, tokens=tokens, narrow=narrow, speed=speed)
    importances = basis.units.importances(model, for_units(basis.criterion, basis.name))
    ranked = rank_layers(model, basis, recipe, count=space.whole.layers - space.fewest)
    degradation = _degradation(model, unit_groups(model, "width"), basis, recipe)
    candidates = []
    for shape in track(list(space.shapes()), "Measuring mixes"):
        kept = most_important(importances, shape.width) if shape.width < space.whole.width else {}
        candidates.append(space.priced(shape, degradation(ranked.order[: space.whole.layers - shape.layers], kept)))
    if not all(math.isfinite(each.estimated_degradation) for each in candidates):
        raise MeasurementError(
            "The loss is not finite without some layers or neurons.",
            "Load the model in float32 or bfloat16 (--set dtype=float32).",
        )
    candidates = _confirmed(space, candidates, tokens)
    best = gather(_best(candidates))[0]  # the first process decides
    sizes = Sizes.of(model)
    found = TargetChoice(
        kind=target.kind,
        limit=target.limit,
        asked=_asked(target, sizes),
        parent=sizes.whole,
        measured=not isinstance(space.speed, CountedSpeed),
        chosen=best,
        candidates=tuple(candidates),
    )
    removed = space.whole.layers - best.layers
    amounts: dict[str, Any] = {}
    if removed:
        amounts["depth"] = removed
    if best.width < space.whole.width:
        amounts["width"] = 1 - best.width / space.whole.width
    return Plan(amounts, {Layers.name: ranked.first(removed)}, found)


def _best(candidates: Sequence[Mix]) -> Mix:
    return min(candidates, key=lambda each: each.estimated_degradation)


def _confirmed(space: _Space, candidates: Sequence[Mix], tokens: int | None) -> list[Mix]:
    """Return the candidates with widths for a speed that is right about the best of them.

    The degradation of a candidate whose width changes here is not measured again.

    Raises:
        ConfigError: If no mix reaches the target after all.
    """
    found = list(candidates)
    while found and not space.speed.confirms(_best(found)):
        shapes = [(space.widest(each.layers), each.estimated_degradation) for each in found]
        found = [space.priced(shape, lost) for shape, lost in shapes if shape is not None]
    if not found:
        raise _out_of_reach(space, tokens)
    return found


def _degradation(model: SentenceTransformer, groups: Sequence[UnitGroup], basis: Basis, recipe: Recipe) -> Degradation:
    """Return the function that measures: on quick reconstructions, or on the model with parts switched off."""
    triplets = effect_triplets(basis.calibration, recipe, {"domain"}, basis.held_out)
    whole = ReferenceOutputs(model, triplets["domain"], prompts=basis.calibration.prompts, options=recipe)
    preservation = for_layers(basis.criterion, basis.name).preservation_weight

    def degradation(removed_layers: Collection[int], keep: Mapping[str, Tensor]) -> float:
        left = [group for group in groups if group.layer not in removed_layers]
        columns = {
            group.name: keep[group.name].repeat_interleave(group.consumer.columns_per_unit) for group in left if keep
        }
        if basis.quick is not None:
            # The blocks that are left have the places, and so the names, of as many from the first.
            renamed = {groups[place].name: columns[group.name] for place, group in enumerate(left) if columns}
            return whole.degradation(basis.quick(removed_layers, renamed), preservation=preservation)
        with skipping(model, removed_layers), _switched_off(left, columns):
            return whole.degradation(preservation=preservation)

    return degradation


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
