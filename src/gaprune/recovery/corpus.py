"""What a recovery is trained on: triplets of the domain, a share of general ones, and some held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from gaprune.config.recovery import MOST_HELD_OUT, RecoveryOptions
from gaprune.data.general import read_general
from gaprune.data.mining import mine_negatives
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.models.prompts import Prompts, Role
from gaprune.recovery.batches import hold_out, in_batches, plan, row

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from gaprune.recovery.teacher import Teacher

__all__ = ["Corpus", "read_corpus"]


@dataclass(frozen=True)
class Corpus:
    """Triplets by what they are for.

    Args:
        domain: Trained on.
        general: Mixed in; ``None`` for none.
        held_out: Held out of the domain; ``None`` for none.
        negatives: Negatives of its own that each query has.
        ratio: Share of general triplets.
    """

    domain: Triplets
    general: Triplets | None
    held_out: Triplets | None
    negatives: int
    ratio: float

    @property
    def columns(self) -> dict[str, Role]:
        """Names of the columns of a data set, in order, with the role of their texts."""
        negatives: dict[str, Role] = {f"negative_{number}": "passage" for number in range(1, self.negatives + 1)}
        return {"query": "query", "positive": "passage", **negatives}

    def prompts(self, prompts: Prompts) -> dict[str, str]:
        """Return the prompt of every column that has one."""
        found = {column: prompts.of(role) for column, role in self.columns.items()}
        return {column: prompt for column, prompt in found.items() if prompt is not None}

    def plan(self, options: RecoveryOptions) -> tuple[Triplets, list[list[int]]]:
        """Return the triplets that are trained on in the steps asked for, and those of every step, as indices."""
        batches = plan(
            self.domain,
            self.general,
            steps=options.steps,
            batch_size=options.batch_size,
            ratio=self.ratio,
            negatives=self.negatives,
            seed=options.seed,
        )
        everything = [*self.domain, *(self.general or ())]
        used = sorted(set(chain.from_iterable(batches)))
        place = {index: row for row, index in enumerate(used)}
        triplets = Triplets([everything[index] for index in used], self.domain.name)
        return triplets, [[place[index] for index in batch] for batch in batches]

    def looked_at(self, options: RecoveryOptions, parts: int) -> tuple[Triplets | None, int]:
        """Return those held out in batches of equal size, one after another, and that size; ``None`` for none."""
        if self.held_out is None:
            return None, parts
        return in_batches(self.held_out, batch_size=options.batch_size, parts=parts, negatives=self.negatives)

    def check(self, trainings: Iterable[RecoveryOptions], parts: int) -> None:
        """Check that every batch of the trainings can be filled with different texts.

        Raises:
            ConfigError: If one cannot.
        """
        for options in trainings:
            self.plan(options)
            self.looked_at(options, parts)

    def with_negatives(self, model: SentenceTransformer, count: int, prompts: Prompts) -> Corpus:
        """Return the corpus with mined negatives.

        Those of what is held out come from all passages of the domain, those of what is trained on from the passages
        that are trained on.
        """

        def mined(triplets: Triplets) -> Triplets:
            return mine_negatives(triplets, model, count=count, prompts=prompts)

        domain = mined(self.domain)
        held = self.held_out and mined(Triplets([*domain, *self.held_out], domain.name))[len(domain) :]
        return replace(self, domain=domain, held_out=held, general=self.general and mined(self.general))

    def texts(self, trainings: Iterable[RecoveryOptions]) -> Iterator[tuple[Role, str]]:
        """Yield every text that is embedded in one of the trainings, with its role; some come more than once."""
        for triplets in (*(self.plan(options)[0] for options in trainings), self.held_out or ()):
            for item in triplets:
                yield from zip(self.columns.values(), self.row(item), strict=True)

    def row(self, item: Triplet) -> tuple[str, ...]:
        """Return the texts of a triplet, one a column."""
        return row(item, self.negatives)

    def data_set(self, items: Sequence[Triplet], teacher: Teacher | None) -> Dataset:
        """Return triplets as the trainer wants them, with the rows of the teacher's embeddings as labels."""
        from datasets import Dataset

        rows = [self.row(item) for item in items]
        content: dict[str, list[Any]] = dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True))
        if teacher is not None:
            roles = self.columns.values()
            content["label"] = [[teacher.index[key] for key in zip(roles, row, strict=True)] for row in rows]
        return Dataset.from_dict(content)

    def as_dict(self) -> Mapping[str, object]:
        """Return names, sizes and fingerprints for the provenance."""
        kinds = {"domain": self.domain, "general": self.general, "held_out": self.held_out}
        return {
            kind: None if data is None else {"name": data.name, "triplets": len(data), "sha256": data.fingerprint}
            for kind, data in kinds.items()
        } | {
            "negatives": self.negatives,
            "negatives_left_out": not self.negatives and any(item.negatives for item in self.domain),
            "general_share": self.ratio,
        }


def read_corpus(
    options: RecoveryOptions,
    *,
    domain: Sequence[Triplet] | None = None,
    general: Sequence[Triplet] | None = None,
    parts: int = 1,
) -> Corpus:
    """Read what a recovery is trained on; triplets given here are used instead of the files that options name.

    Args:
        options: What is asked for.
        domain: Triplets of the domain.
        general: General triplets.
        parts: Number of processes that share a batch.

    Raises:
        ConfigError: If no domain data are named, or the numbers do not fit them.
        DataError: If a file cannot be used, or a triplet has fewer negatives than asked for.
    """
    if options.batch_size % parts:
        raise ConfigError(
            f"batch_size: {options.batch_size} triplets do not divide into {parts} processes.",
            f"Use a multiple of {parts}.",
        )
    if domain is None:
        if options.domain is None:
            raise ConfigError(
                "domain: recovery is trained on triplets of your domain, and none are named.",
                "Name them with --domain FILE (domain=...).",
            )
        domain = read_triplets(
            options.domain, subset=options.subset, split=options.split, columns=options.columns or None
        )
    ratio = options.share_of_general(named=general is not None or options.general is not None)
    if not ratio and general is not None:
        general = None
    elif ratio and general is None:
        general = read_general(
            options.general,
            subset=options.general_subset,
            split=options.general_split,
            columns=options.general_columns or None,
            most=len(domain) if options.triplets is None else None,
            seed=options.seed,
        )
    drawn = Triplets.of(domain, "domain").take(options.triplets, seed=options.seed)
    mixed = None if general is None else Triplets.of(general, "general").take(options.triplets, seed=options.seed)
    negatives = _negatives(options, [drawn] if mixed is None else [drawn, mixed])
    held = None
    if options.held_out:
        drawn, held = hold_out(drawn, options.held_out, most=MOST_HELD_OUT, least=2 * parts, seed=options.seed)
    return Corpus(drawn, mixed, held, negatives, ratio)


def _negatives(options: RecoveryOptions, sets: Sequence[Triplets]) -> int:
    """Return how many negatives of its own each query has."""
    mined, wanted = options.mine_negatives, options.own_negatives
    for triplets in sets:
        mines = mined and not triplets.have_negatives
        if mines and mined < wanted:
            raise ConfigError(
                f"hard_negatives: {wanted} asked for, {mined} are mined.",
                "Raise --mine-negatives, or lower --hard-negatives.",
            )
        for item in triplets:
            if len(item.negatives) < wanted and not (mines and not item.negatives):
                raise DataError(
                    f"has {len(item.negatives)} of the {wanted} negatives asked for.",
                    "Lower --hard-negatives, or give more; --mine-negatives mines for those that have none.",
                    source=item.source or triplets.name,
                )
    return wanted
