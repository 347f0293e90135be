"""The triplets of a run: read before any model is loaded, drawn by the seed, and completed with mined negatives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.config.data import CLUSTERS
from gaprune.config.recipe import Recipe
from gaprune.criteria.needs import DataKind, Needs
from gaprune.data.checks.language import language_problems
from gaprune.data.checks.prompts import Texts, check_prompts
from gaprune.data.mining import mine_negatives
from gaprune.data.read import check_source, read_domain, read_general
from gaprune.data.sampling import sample
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
        found = [triplets for triplets in (self.domain, self.general) if triplets is not None]
        if found:
            min(found, key=len).take(count, seed=0)

    def smallest(self) -> int | None:
        """Return the size of the smaller set, ``None`` if there is no set."""
        return min((len(triplets) for triplets in (self.domain, self.general) if triplets is not None), default=None)


def named_data(recipe: Recipe, *, domain: object, general: object) -> frozenset[DataKind]:
    """Return the kinds of data that the user names, in memory or in the recipe."""
    given: dict[DataKind, tuple[object, ...]] = {
        "domain": (domain, recipe.domain),
        "general": (general, recipe.general),
    }
    return frozenset(kind for kind, sources in given.items() if any(each is not None for each in sources))


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
    read_own = None if domain is None else Triplets.of(domain, "domain")
    read_other = None if general is None else Triplets.of(general, "general")
    must = recipe.negatives == "explicit" and not recipe.mine_negatives
    if needs.wants("domain") and read_own is None:
        if recipe.domain is None:
            raise ConfigError(
                "domain: what is asked for is measured on triplets of your domain, and none are named.",
                "Name them with --domain FILE (domain=...), or use a criterion that needs none, such as magnitude.",
            )
        read_own = read_domain(recipe.domain, recipe, require_negatives=must)
    elif read_own is None and recipe.domain is not None:
        check_source(recipe.domain, recipe.columns, recipe.subset, recipe.split, skip_empty=recipe.skip_empty)
    if needs.wants("general") and read_other is None:
        default = CLUSTERS if read_own is None else len(read_own)
        read_other = read_general(
            recipe.general,
            columns=recipe.general_columns or None,
            subset=recipe.general_subset,
            split=recipe.general_split,
            require_negatives=must,
            most=default if recipe.triplets is None else None,
            seed=recipe.seed,
        )
    elif read_other is None and recipe.general is not None:
        check_source(
            recipe.general, recipe.general_columns, recipe.general_subset, recipe.general_split, prefix="general_"
        )
    found = CalibrationData(
        read_own if needs.wants("domain") else None, read_other if needs.wants("general") else None, named
    )
    found.check_count(recipe.triplets)
    return found


@dataclass(frozen=True)
class Calibration:
    """The triplets of a run by kind of data, with the prompts they are read with.

    Args:
        domain: Triplets of the domain; ``None`` if the run does not use them.
        general: General triplets; ``None`` if the run does not use them.
        prompts: Put before queries and passages.
        named: Kinds that the user named; the model is reconstructed and judged on these.
        mined: Number of negatives mined for each triplet that had none.
        own_negatives: Number of triplets of each kind that had negatives of their own.
    """

    domain: Triplets | None
    general: Triplets | None
    prompts: Prompts
    named: frozenset[DataKind]
    mined: int
    own_negatives: Mapping[str, int]

    @property
    def by_kind(self) -> dict[DataKind, Triplets]:
        """The triplets of the kinds that the run uses."""
        kinds: dict[DataKind, Triplets | None] = {"domain": self.domain, "general": self.general}
        return {kind: triplets for kind, triplets in kinds.items() if triplets is not None}

    def of_user(self) -> dict[DataKind, Triplets]:
        """Return the triplets of the kinds that the user named."""
        return {kind: triplets for kind, triplets in self.by_kind.items() if kind in self.named}

    def as_dict(self) -> dict[str, object]:
        """Return names, sizes, where negatives come from, and fingerprints, for the provenance."""
        found: dict[str, object] = {"domain": None, "general": None}
        for kind, triplets in self.by_kind.items():
            own = self.own_negatives[kind]
            found[kind] = {
                "name": triplets.name,
                "triplets": len(triplets),
                "with_own_negatives": own,
                "mined_negatives_each": self.mined if own < len(triplets) else 0,
                "sha256": triplets.fingerprint,
            }
        return found


def draw_calibration(
    model: SentenceTransformer, recipe: Recipe, data: CalibrationData, tasks: Sequence[Texts] = ()
) -> Calibration:
    """Draw the triplets that a run uses, and mine the negatives that it asks for.

    Raises:
        ConfigError: If there are fewer triplets than are to be drawn, or a prompt cannot be resolved.
        DataError: If there are too few passages to mine negatives from, or the texts or ``tasks`` have the prompts
            already that are put before them.
    """
    prompts = resolve_prompts(model, query=recipe.query_prompt, passage=recipe.passage_prompt)
    check_prompts(model, prompts, (data.domain, data.general, *tasks))
    if data.domain is not None:
        for problem in language_problems(model, (text for _, text in data.domain.roles()), data.domain.name):
            say(f"Note: {problem}")
    own: dict[str, int] = {}

    def drawn(triplets: Triplets | None, kind: str) -> Triplets | None:
        if triplets is None:
            return None
        if recipe.sampling == "kmeans" and recipe.triplets is not None and recipe.triplets < len(triplets):
            found = sample(triplets, model, recipe.triplets, prompts=prompts, seed=recipe.seed)
        else:
            found = triplets.take(recipe.triplets, seed=recipe.seed)
        own[kind] = sum(bool(item.negatives) for item in found)
        if recipe.mine_negatives and not found.have_negatives:
            return mine_negatives(found, model, count=recipe.mine_negatives, prompts=prompts)
        return found

    domain, general = drawn(data.domain, "domain"), drawn(data.general, "general")
    return Calibration(domain, general, prompts, data.named, mined=recipe.mine_negatives, own_negatives=own)


def effect_triplets(
    calibration: Calibration, recipe: Recipe, kinds: Collection[DataKind], held_out: Mapping[str, Triplets]
) -> dict[str, Triplets]:
    """Return the ``recipe.layer_triplets`` of each kind on which the effect of a removal is measured.

    Args:
        calibration: The triplets of the run.
        recipe: Number and seed.
        kinds: Kinds of data.
        held_out: Triplets that the reconstruction is not fitted on; it is fitted on no kind that is missing here.

    Raises:
        ConfigError: If the run has no triplets of a kind.
    """
    found: dict[str, Triplets] = {}
    for kind in sorted(kinds):
        triplets = calibration.by_kind.get(kind)
        if triplets is None:
            raise ConfigError(f"{kind}: {kind} triplets are needed here.", f"Name them with --{kind} FILE.")
        few = min(recipe.layer_triplets, len(triplets))
        found[kind] = held_out[kind][:few] if kind in held_out else triplets.take(few, seed=recipe.seed)
    return found
