"""Calibration data of a run: read, drawn, completed, and measured once for every criterion that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from gaprune.config.data import CLUSTERS
from gaprune.config.recipe import Recipe
from gaprune.criteria.needs import DataKind, Needs
from gaprune.data.general import read_general
from gaprune.data.mining import mine_negatives
from gaprune.data.read import check_source, read_triplets
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.statistics.checkpoint import Checkpoint
from gaprune.statistics.measure import measure
from gaprune.statistics.sums import Statistic, Statistics

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "KINDS",
    "Calibration",
    "Data",
    "checkpoint_of",
    "named_data",
    "prepare_calibration",
    "read_data",
]

KINDS: tuple[DataKind, ...] = get_args(DataKind)


@dataclass(frozen=True)
class Data:
    """The triplets that are there of either kind, before any are drawn.

    Args:
        domain: Triplets of the domain; ``None`` where no criterion looks at them.
        general: General triplets; likewise.
        named: Kinds that the user named. Public general data, which some criteria read where none are named, are for
            those criteria alone.
    """

    domain: Triplets | None
    general: Triplets | None
    named: frozenset[DataKind]

    def check_count(self, count: int | None) -> None:
        """Refuse to draw more triplets a side than there are.

        Raises:
            ConfigError: If there are fewer.
        """
        for triplets in (self.domain, self.general):
            if triplets is not None:
                triplets.take(count, seed=0)

    def smallest(self) -> int | None:
        """Return the size of the smaller of the sets that are looked at, ``None`` where none is."""
        sizes = [len(triplets) for triplets in (self.domain, self.general) if triplets is not None]
        return min(sizes, default=None)


@dataclass(frozen=True)
class Calibration:
    """The triplets of either kind that a run needs, with the prompts they are read with.

    Args:
        domain: Triplets of the domain; ``None`` where no criterion looks at them.
        general: General triplets; likewise.
        prompts: Put before queries and passages.
        named: Kinds that the user named, which repair is fitted and judged on.
        mined: Negatives that were mined for each triplet that had none; 0 where none were.
        own_negatives: Number of triplets of either kind that had negatives of their own.
    """

    domain: Triplets | None
    general: Triplets | None
    prompts: Prompts
    named: frozenset[DataKind]
    mined: int
    own_negatives: Mapping[str, int]

    def measure(
        self,
        model: SentenceTransformer,
        linear_layers: Sequence[LinearLayer],
        needs: Needs,
        recipe: Recipe,
        identity: Mapping[str, object],
        part: str = "",
    ) -> tuple[Statistics | None, Statistics | None]:
        """Return the signals on domain and on general data.

        Args:
            model: The model.
            linear_layers: What to measure of it.
            needs: Which statistics.
            recipe: Options, and where measurements are kept.
            identity: What a checkpoint says of the model.
            part: Keeps the measurements of another model of the same run apart.
        """
        checkpoint = checkpoint_of(recipe, identity, part)
        beside = recipe.out or recipe.scores

        def one(triplets: Triplets | None, wanted: frozenset[Statistic], label: str) -> Statistics | None:
            if triplets is None or not wanted:
                return None
            return measure(
                model,
                triplets,
                linear_layers,
                statistics=wanted,
                prompts=self.prompts,
                options=recipe,
                label=label,
                checkpoint=checkpoint,
                cache=None if beside is None else Path(beside),
            )

        return one(self.domain, needs.domain, "domain"), one(self.general, needs.general, "general")

    def of_user(self) -> dict[DataKind, Triplets]:
        """Return the triplets of the kinds that the user named."""
        kinds: dict[DataKind, Triplets | None] = {"domain": self.domain, "general": self.general}
        return {kind: triplets for kind, triplets in kinds.items() if kind in self.named and triplets is not None}

    def as_dict(self) -> dict[str, object]:
        """Return names, sizes, where negatives come from, and fingerprints, for the provenance."""
        return {
            kind: None if data is None else self._described(kind, data)
            for kind, data in (("domain", self.domain), ("general", self.general))
        }

    def _described(self, kind: str, data: Triplets) -> dict[str, object]:
        own = self.own_negatives[kind]
        return {
            "name": data.name,
            "triplets": len(data),
            "with_own_negatives": own,
            "mined_negatives_each": self.mined if own < len(data) else 0,
            "sha256": data.fingerprint,
        }


def checkpoint_of(recipe: Recipe, identity: Mapping[str, object], part: str = "") -> Checkpoint | None:
    """Return where the recipe keeps measurements, if it does, those of every sample (seed, size) apart."""
    if recipe.checkpoint is None:
        return None
    drawn = "" if recipe.triplets is None else f"-triplets-{recipe.triplets}"
    folder = Path(recipe.checkpoint) / f"seed-{recipe.seed}{drawn}" / part
    return Checkpoint(folder, resume=recipe.resume, every=recipe.checkpoint_every, identity=identity)


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
) -> Data:
    """Read the triplets that ``needs`` call for; triplets given here are used instead of the recipe's files.

    No model is needed for it, so every fault of the data is found before one is loaded. Where nothing says how many of
    the public general data are wanted, as many are drawn as the domain has, or else the 5,000 of the paper's sample.

    Raises:
        ConfigError: If domain data are needed and none are named, or fewer are there than are to be drawn.
        DataError: If a file cannot be used.
    """
    named = named_data(recipe, domain=domain, general=general)
    domain = None if domain is None else Triplets.of(domain, "domain")
    general = None if general is None else Triplets.of(general, "general")
    must = recipe.negatives == "explicit" and not recipe.mine_negatives
    columns, general_columns = recipe.columns or None, recipe.general_columns or None
    if needs.wants("domain") and domain is None:
        if recipe.domain is None:
            raise ConfigError(
                "domain: what is asked for is measured on triplets of your domain, and none are named.",
                "Name them with --domain FILE (domain=...), or use a criterion that needs none, such as magnitude.",
            )
        domain = read_triplets(
            recipe.domain, subset=recipe.subset, split=recipe.split, columns=columns, require_negatives=must
        )
    elif domain is None and recipe.domain is not None:
        check_source(recipe.domain, columns=columns)
    if needs.wants("general") and general is None:
        general = read_general(
            recipe.general,
            subset=recipe.general_subset,
            split=recipe.general_split,
            columns=general_columns,
            require_negatives=must,
            most=_most(recipe, domain),
            seed=recipe.seed,
        )
    elif general is None and recipe.general is not None:
        check_source(recipe.general, columns=general_columns)
    found = Data(domain if needs.wants("domain") else None, general if needs.wants("general") else None, named)
    found.check_count(recipe.triplets)
    return found


def _most(recipe: Recipe, domain: Triplets | None) -> int | None:
    """Return how many triplets of the public general data are wanted; ``None`` where the recipe says how many."""
    if recipe.triplets is not None:
        return None
    return CLUSTERS if domain is None else len(domain)


def prepare_calibration(model: SentenceTransformer, recipe: Recipe, data: Data) -> Calibration:
    """Draw the triplets that a run uses, and mine the negatives it asks for.

    Raises:
        ConfigError: If there are fewer triplets than are to be drawn, or a prompt cannot be resolved.
        DataError: If there are too few passages to mine negatives from.
    """
    prompts = resolve_prompts(model, query=recipe.query_prompt, passage=recipe.passage_prompt)

    own: dict[str, int] = {}

    def finish(triplets: Triplets | None, kind: str) -> Triplets | None:
        if triplets is None:
            return None
        drawn = triplets.take(recipe.triplets, seed=recipe.seed)
        own[kind] = sum(bool(item.negatives) for item in drawn)
        if recipe.mine_negatives and not drawn.have_negatives:
            return mine_negatives(drawn, model, count=recipe.mine_negatives, prompts=prompts)
        return drawn

    domain, general = finish(data.domain, "domain"), finish(data.general, "general")
    return Calibration(domain, general, prompts, data.named, mined=recipe.mine_negatives, own_negatives=own)
