"""How many units of each kind go, from fractions and counts to exact numbers that the model's configuration takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.models.units import UnitGroup
from gaprune.pruning.choose import LayerChoice

__all__ = ["UnitPlan", "plan_units", "units_kept"]


@dataclass(frozen=True)
class UnitPlan:
    """What is to be cut out.

    Args:
        width: Fraction of the FFN neurons; ``None`` leaves them.
        heads: Fraction of the attention heads, likewise.
        depth: Number of layers.
        layers: Which, where they were chosen already.
        vocabulary: Whether tokens go.
        tokens: Fraction of the vocabulary that goes; ``None`` removes all that no text needs.
    """

    width: float | None = None
    heads: float | None = None
    depth: int = 0
    layers: LayerChoice | None = None
    vocabulary: bool = False
    tokens: float | None = None


def plan_units(recipe: Recipe, *, layers: int) -> UnitPlan:
    """Return what a recipe without a target asks for.

    Args:
        recipe: A recipe of structured pruning, with one value of each option.
        layers: Number of layers of the parent.

    Raises:
        ConfigError: If every layer would be removed.
    """
    depth = recipe.depth[0] if recipe.depth else 0
    if depth >= layers:
        raise ConfigError(
            f"depth: {depth} of {layers} layers cannot be removed.", "Keep at least one layer: a smaller --depth."
        )
    return UnitPlan(
        width=recipe.width[0] if recipe.width else None,
        heads=recipe.heads[0] if recipe.heads else None,
        depth=depth,
        vocabulary="vocabulary" in recipe.units,
        tokens=recipe.tokens,
    )


def units_kept(groups: Sequence[UnitGroup], fraction: float, *, round_to: int) -> int:
    """Return how many units of every group stay when a fraction goes: the nearest multiple of ``round_to``.

    Raises:
        ConfigError: If that is none of them or all.
    """
    units, kind = groups[0].units, groups[0].kind
    kept = round(units * (1 - fraction) / round_to) * round_to
    if not 0 < kept < units:
        what = "FFN neurons" if kind == "width" else "head groups"
        raise ConfigError(
            f"{kind}: {fraction:g} of {units} {what} in multiples of {round_to} would leave {min(kept, units)}.",
            "Choose another fraction" + (", or a smaller round_to (--set round_to=8)." if kind == "width" else "."),
        )
    return kept
