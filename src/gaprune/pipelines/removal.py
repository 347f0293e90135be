"""What a run removes and what it needs for that, known from the options alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import (
    Criterion,
    Granularity,
    UpdatingCriterion,
    for_layers,
    for_units,
    for_weights,
)
from gaprune.criteria.needs import DataKind, Needs
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError
from gaprune.pruning.removable.base import Removable, requested

_INTERFACES = {"weights": for_weights, "units": for_units, "layers": for_layers}


@dataclass(frozen=True)
class Removal:
    """What a run removes.

    Args:
        recipe: All options.
        named: Kinds of data that the user named.
        singles: The recipe of each result, by the name of the result.
        removables: What each result loses, by the name of the result.
        reconstructs: Whether what is left is reconstructed.
    """

    recipe: Recipe
    named: frozenset[DataKind]
    singles: Mapping[str, Recipe]
    removables: Mapping[str, Sequence[Removable[Any]]]
    reconstructs: bool

    @property
    def kinds(self) -> Sequence[Removable[Any]]:
        """What is removed, with the options of the first result."""
        return next(iter(self.removables.values()))

    @property
    def is_structured(self) -> bool:
        """Whether the model becomes smaller."""
        return self.kinds[0].is_structured

    @property
    def granularities(self) -> tuple[Granularity, ...]:
        """What the criteria have to rank."""
        return tuple(dict.fromkeys(each.ranked_by for each in self.kinds if each.ranked_by is not None))

    def create(self, names: Iterable[str]) -> dict[str, Criterion]:
        """Return the criteria of these names as they are in this run.

        Raises:
            ConfigError: If there is no such criterion, or it cannot rank what is removed.
        """
        units_reconstructed = self.reconstructs and self.is_structured
        found = {name: create(name).for_run(self.named, reconstructs=units_reconstructed) for name in names}
        for name, criterion in found.items():
            for granularity in self.granularities:
                _INTERFACES[granularity](criterion, name)
            if isinstance(criterion, UpdatingCriterion) and not self.is_structured:
                criterion.check_allocation(name, self.recipe.allocation)
                if self.recipe.reconstruct:
                    raise ConfigError(
                        f"reconstruct: {name} updates the kept weights itself.",
                        "Leave --reconstruct (reconstruct=True) out.",
                    )
        return found

    def needs(self, criteria: Collection[Criterion]) -> Needs:
        """Return what is measured, and the kinds of data whose triplets are used, for a run by these criteria."""
        needs = Needs.together(each.needs(criterion, self.named) for criterion in criteria for each in self.kinds)
        if self.recipe.target is not None or self.recipe.rotate:
            needs |= Needs(texts=frozenset({"domain"}))
        if self.reconstructs and not all(isinstance(each, UpdatingCriterion) for each in criteria):
            needs |= Needs(texts=self.named)
        return needs


def plan_removal(recipe: Recipe, named: frozenset[DataKind]) -> Removal:
    """Return what a run removes, if data of the kinds ``named`` are there.

    Raises:
        GapruneError: One of its kinds if an option cannot be used.
    """
    singles = recipe.singles()
    removables = {name: requested(single) for name, single in singles.items()}
    is_possible = any(each.ranked_by is not None for each in next(iter(removables.values())))
    if recipe.reconstruct and "domain" not in named:
        raise ConfigError(
            "reconstruct: it is fitted on texts of your domain, and none are named.",
            "Name triplets with --domain FILE (domain=...), or leave --reconstruct out.",
        )
    if recipe.reconstruct and not is_possible:
        raise ConfigError(
            "reconstruct: there is nothing to reconstruct if only tokens are removed.",
            "Leave --reconstruct (reconstruct=True) out, or remove neurons, heads or layers too.",
        )
    wanted = "domain" in named if recipe.reconstruct is None else recipe.reconstruct
    if recipe.rounds > 1 and recipe.is_structured and not (wanted and is_possible):
        raise ConfigError(
            "rounds: each round measures what a reconstruction left, and nothing is reconstructed.",
            "Name triplets with --domain FILE (domain=...), or leave rounds and --no-reconstruct out.",
        )
    return Removal(recipe, named, singles, removables, wanted and is_possible)
