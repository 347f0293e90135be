"""The data of a recovery: training triplets of the domain, a share of general ones, and held-out triplets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from gaprune.config.recovery import MOST_HELD_OUT, RecoveryOptions
from gaprune.data.mining import mine_negatives
from gaprune.data.read import read_domain, read_general
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError, require_extra
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.recovery.batches import hold_out, in_batches, plan, row

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from gaprune.recovery.teacher import Teacher
    from gaprune.recovery.texts import Texts


@dataclass(frozen=True)
class RecoveryData:
    """Triplets by their use.

    Args:
        domain: Training triplets of the domain.
        general: General triplets that are mixed in; ``None`` for none.
        held_out: Triplets of the domain that are not trained on; ``None`` for none.
        negatives: Negatives of its own that each query is trained with.
        general_share: Share of general triplets in the batches.
    """

    domain: Triplets
    general: Triplets | None
    held_out: Triplets | None
    negatives: int
    general_share: float

    @property
    def columns(self) -> dict[str, Role]:
        """Names of the columns of a data set, in order, with the role of their texts."""
        negatives: dict[str, Role] = {f"negative_{number}": "passage" for number in range(1, self.negatives + 1)}
        return {"query": "query", "positive": "passage", **negatives}

    def plan(self, options: RecoveryOptions) -> tuple[Triplets, list[list[int]]]:
        """Return the triplets that the steps of ``options`` train on, and the batch of every step as indices."""
        batches = plan(
            self.domain,
            self.general,
            steps=options.steps,
            batch_size=options.batch_size,
            general_share=self.general_share,
            negatives=self.negatives,
            seed=options.seed,
        )
        everything = [*self.domain, *(self.general or ())]
        used = sorted(set(chain.from_iterable(batches)))
        place = {index: row for row, index in enumerate(used)}
        triplets = Triplets([everything[index] for index in used], self.domain.name)
        return triplets, [[place[index] for index in batch] for batch in batches]

    def held_out_batches(self, options: RecoveryOptions, processes: int) -> tuple[Triplets | None, int]:
        """Return the held-out triplets in batches of equal size, one after another, and that size."""
        if self.held_out is None:
            return None, processes
        return in_batches(self.held_out, batch_size=options.batch_size, processes=processes, negatives=self.negatives)

    def check(self, rounds: Iterable[RecoveryOptions], processes: int = 1) -> None:
        """Check that every batch of the rounds can be filled with different texts.

        Raises:
            ConfigError: If one cannot.
        """
        for options in rounds:
            self.plan(options)
            self.held_out_batches(options, processes)

    def mined(self, model: SentenceTransformer, rounds: Sequence[RecoveryOptions], processes: int = 1) -> RecoveryData:
        """Return the data with mined negatives for each query that has none, if the options ask for them.

        Negatives of held-out triplets come from all passages of the domain, those of training triplets from the
        passages that are trained on.
        """
        options = rounds[0]
        if not options.mine_negatives:
            return self
        prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)

        def mine(triplets: Triplets) -> Triplets:
            return mine_negatives(triplets, model, count=options.mine_negatives, prompts=prompts)

        domain = mine(self.domain)
        held_out = self.held_out and mine(Triplets([*domain, *self.held_out], domain.name))[len(domain) :]
        found = replace(self, domain=domain, held_out=held_out, general=self.general and mine(self.general))
        found.check(rounds, processes)
        return found

    def texts(self, rounds: Iterable[RecoveryOptions]) -> Iterator[tuple[Role, str]]:
        """Yield every text that the rounds embed, with its role; some texts come more than once."""
        for triplets in (*(self.plan(options)[0] for options in rounds), self.held_out or ()):
            for item in triplets:
                yield from zip(self.columns.values(), row(item, self.negatives), strict=True)

    def as_dict(self) -> Mapping[str, object]:
        """Return names, sizes and fingerprints for the provenance."""
        return named_data("triplets", domain=self.domain, general=self.general, held_out=self.held_out) | {
            "negatives": self.negatives,
            "negatives_left_out": not self.negatives and any(item.negatives for item in self.domain),
            "general_share": self.general_share,
        }


def named_data(unit: str, **kinds: Triplets | Texts | None) -> dict[str, object]:
    """Return name, number of ``unit`` and fingerprint of every kind of data, for the provenance."""
    return {
        kind: None if each is None else {"name": each.name, unit: len(each), "sha256": each.fingerprint}
        for kind, each in kinds.items()
    }


def data_set(items: Sequence[Triplet], columns: Mapping[str, Role], teacher: Teacher | None) -> Dataset:
    """Return texts by column, as the trainer takes them, with the rows of the teacher's embeddings as labels."""
    from datasets import Dataset

    rows = [row(item, len(columns) - 2) for item in items]
    content: dict[str, list[Any]] = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    if teacher is not None:
        roles = columns.values()
        content["label"] = [[teacher.index[key] for key in zip(roles, texts, strict=True)] for texts in rows]
    return Dataset.from_dict(content)


def read_recovery_data(
    options: RecoveryOptions,
    *,
    domain: Sequence[Triplet] | None = None,
    general: Sequence[Triplet] | None = None,
    processes: int = 1,
) -> RecoveryData:
    """Read the data of a recovery; triplets given here are used instead of the files that the options name.

    Raises:
        MissingExtraError: If an optional dependency of the options is not installed.
        ConfigError: If no domain data are named, or the numbers do not fit them.
        DataError: If a file cannot be used, or a triplet has too few negatives.
    """
    if options.lora:
        require_extra("LoRA", "lora", "peft")
    if domain is None:
        if options.domain is None:
            raise ConfigError(
                "domain: recovery is trained on triplets of your domain, and none are named.",
                "Name them with --domain FILE (domain=...), or distil on texts without labels: --texts FOLDER "
                "(texts=...).",
            )
        domain = read_domain(options.domain, options)
    share = options.share_of_general(named=general is not None or options.general is not None)
    if not share:
        general = None
    elif general is None:
        general = read_general(
            options.general,
            subset=options.general_subset,
            split=options.general_split,
            columns=options.general_columns or None,
            most=len(domain) if options.triplets is None else None,
            seed=options.seed,
        )
    training = Triplets.of(domain, "domain").take(options.triplets, seed=options.seed)
    mixed = None if general is None else Triplets.of(general, "general").take(options.triplets, seed=options.seed)
    for triplets in (training, mixed):
        if triplets is not None:
            _check_negatives(options, triplets)
    held_out = None
    if options.held_out:
        training, held_out = hold_out(
            training, options.held_out, most=MOST_HELD_OUT, least=2 * processes, seed=options.seed
        )
    return RecoveryData(training, mixed, held_out, options.own_negatives, share)


def _check_negatives(options: RecoveryOptions, triplets: Triplets) -> None:
    """Check that each query has, or will have from mining, the negatives that it is trained with."""
    mined, wanted = options.mine_negatives, options.own_negatives
    if mined and mined < wanted and not triplets.have_negatives:
        raise ConfigError(
            f"hard_negatives: {wanted} asked for, {mined} are mined.",
            "Raise mine_negatives, or lower hard_negatives (--set name=value).",
        )
    for item in triplets:
        if len(item.negatives) < wanted and (item.negatives or not mined):
            raise DataError(
                f"has {len(item.negatives)} of the {wanted} negatives asked for.",
                "Lower hard_negatives, give more, or mine_negatives for queries that have none (--set name=value).",
                source=item.source or triplets.name,
            )
