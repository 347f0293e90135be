"""The calibration data of a run: which kinds are named, and reading them before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from gaprune.config.data import CLUSTERS
from gaprune.config.recipe import Recipe
from gaprune.criteria.needs import DataKind, Needs
from gaprune.data.general import read_general
from gaprune.data.read import check_source, read_triplets
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError

KINDS: tuple[DataKind, ...] = get_args(DataKind)


@dataclass(frozen=True)
class CalibrationData:
    """All triplets of each kind, of which every run draws its own.

    Args:
        domain: Triplets of the domain; ``None`` if no criterion looks at them.
        general: General triplets; ``None`` if no criterion looks at them.
        named: Kinds that the user named. Public general data, which some criteria read if none are named, are used by
            those criteria alone.
    """

    domain: Triplets | None
    general: Triplets | None
    named: frozenset[DataKind]

    def check_count(self, count: int | None) -> None:
        """Refuse to draw more triplets of each kind than there are.

        Raises:
            ConfigError: If there are fewer.
        """
        for triplets in (self.domain, self.general):
            if triplets is not None:
                triplets.take(count, seed=0)

    def smallest(self) -> int | None:
        """Return the size of the smaller set, ``None`` if there is no set."""
        return min((len(triplets) for triplets in (self.domain, self.general) if triplets is not None), default=None)


def named_data(recipe: Recipe, *, domain: object, general: object) -> frozenset[DataKind]:
    """Return the kinds of data that the user names, in memory or in the recipe."""
    given = {"domain": (domain, recipe.domain), "general": (general, recipe.general)}
    return frozenset(kind for kind in KINDS if any(each is not None for each in given[kind]))


def read_data(
    recipe: Recipe,
    needs: Needs,
    *,
    domain: Sequence[Triplet] | None = None,
    general: Sequence[Triplet] | None = None,
) -> CalibrationData:
    """Read the triplets that ``needs`` call for; triplets given here replace the recipe's files.

    If the recipe names no general data and no number of triplets, as many public ones are drawn as the domain has, or
    the 5,000 of the paper's sample if the domain is not read.

    Raises:
        ConfigError: If domain data are needed and none are named, or there are fewer than are to be drawn.
        DataError: If a file cannot be used.
    """
    named = named_data(recipe, domain=domain, general=general)
    read_domain = None if domain is None else Triplets.of(domain, "domain")
    read_other = None if general is None else Triplets.of(general, "general")
    must = recipe.negatives == "explicit" and not recipe.mine_negatives
    columns, general_columns = recipe.columns or None, recipe.general_columns or None
    if needs.wants("domain") and read_domain is None:
        if recipe.domain is None:
            raise ConfigError(
                "domain: what is asked for is measured on triplets of your domain, and none are named.",
                "Name them with --domain FILE (domain=...), or use a criterion that needs none, such as magnitude.",
            )
        read_domain = read_triplets(
            recipe.domain, subset=recipe.subset, split=recipe.split, columns=columns, require_negatives=must
        )
    elif read_domain is None and recipe.domain is not None:
        check_source(recipe.domain, subset=recipe.subset, split=recipe.split, columns=columns)
    if needs.wants("general") and read_other is None:
        default = CLUSTERS if read_domain is None else len(read_domain)
        read_other = read_general(
            recipe.general,
            subset=recipe.general_subset,
            split=recipe.general_split,
            columns=general_columns,
            require_negatives=must,
            most=default if recipe.triplets is None else None,
            seed=recipe.seed,
        )
    elif read_other is None and recipe.general is not None:
        check_source(recipe.general, subset=recipe.general_subset, split=recipe.general_split, columns=general_columns)
    found = CalibrationData(
        read_domain if needs.wants("domain") else None, read_other if needs.wants("general") else None, named
    )
    found.check_count(recipe.triplets)
    return found
