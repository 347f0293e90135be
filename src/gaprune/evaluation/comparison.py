"""A table of criteria by sparsity and seed, as table 1 of the paper, with other models beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple, Self

from pydantic import Field

from gaprune.errors import ConfigError
from gaprune.evaluation.cost.latency import Speed
from gaprune.evaluation.quality.bootstrap import Difference
from gaprune.evaluation.quality.index import ParentIndex
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.variants import Variant, Variants
from gaprune.util.records import SCHEMA, Record, read_record

COMPARISON_FILE = "comparison.json"


class Other(Record):
    """A model that was made elsewhere, on the same tasks.

    Args:
        name: Of its folder, or its hub id.
        evaluation: Its scores, with those of the model that the comparison starts from.
        speed: How many times faster it is than that model, both measured in turn.
        differences: How much higher its mean over the tasks of each domain is.
    """

    name: str
    evaluation: Evaluation
    speed: Speed
    differences: dict[str, Difference]


class Cell(Record):
    """The evaluation of one pruned model.

    Args:
        criterion: Name of the criterion, with the constants of a variant.
        sparsity: Fraction removed of the selected weights; for a target, the fraction asked for of the parent's
            parameters, bytes or operations.
        triplets: Triplets of each kind that were asked for; ``None`` for all there are, or if the criterion uses none.
        seed: Seed of the calibration sample.
        reconstructed: Whether the reconstruction was kept; ``None`` if none was tried.
        evaluation: Its scores, with the dense parent's beside them.
        speed: How many times faster it is than the parent, if there are other models to compare with.
    """

    criterion: str
    sparsity: float
    triplets: int | None = None
    seed: int
    reconstructed: bool | None = None
    evaluation: Evaluation
    speed: Speed | None = None

    @property
    def key(self) -> tuple[str, float, int | None]:
        """What cells of several seeds have in common: criterion, sparsity and number of triplets."""
        return self.criterion, self.sparsity, self.triplets


class Differences(Record):
    """How much higher the mean of a criterion over its seeds is than the parent's.

    Args:
        criterion: As in the cells that are meant.
        sparsity: As there.
        triplets: As there.
        by_domain: For the tasks of each domain; the intervals cover the items of the tasks, not the choice of seeds.
    """

    criterion: str
    sparsity: float
    triplets: int | None = None
    by_domain: dict[str, Difference]

    @property
    def key(self) -> tuple[str, float, int | None]:
        """As that of the cells."""
        return self.criterion, self.sparsity, self.triplets


class Lead(Record):
    """By how much the best criterion is ahead of the next in one domain of tasks.

    Args:
        sparsity: As in the cells that are meant.
        domain: Of the tasks.
        best: The criterion with the highest mean over its seeds, and how many triplets it had where that varies.
        following: The one with the next mean.
        difference: Of these means; the interval covers the items of the tasks, not the choice of seeds.
    """

    sparsity: float
    domain: str
    best: str
    following: str
    difference: Difference

    @property
    def is_level(self) -> bool:
        """Whether the interval holds 0, so that the difference can be chance."""
        return self.difference.low <= 0 <= self.difference.high


class Summary(NamedTuple):
    """One criterion at one sparsity and number of triplets over the seeds, for one domain of tasks.

    Args:
        mean: Mean over tasks and seeds.
        spread: Standard deviation of the task mean over seeds; ``None`` for one seed.
        relative: ``mean`` against the dense parent, -0.02 is two per cent below; ``None`` if the parent has 0.
    """

    mean: float
    spread: float | None
    relative: float | None

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        relative = "" if self.relative is None else f" ({self.relative:+.1%})"
        return f"{self.mean:.4f}{spread}{relative}"


class Comparison(Record):
    """Criteria side by side, and other models beside them.

    Args:
        version: Version of this format, ``schema`` in the file.
        settings: What the numbers depend on.
        dense: Scores of the model that the comparison starts from, which the criteria prune.
        cells: Pruned models.
        variants: What the criteria are variants of.
        differences: Of criteria from the parent, if there are other models to compare with.
        leads: Of the best criterion at each sparsity and in each domain of tasks, if there are several.
        others: Models that were made elsewhere.
    """

    version: int = Field(default=SCHEMA, validation_alias="schema", serialization_alias="schema")
    settings: dict[str, Any]
    dense: Evaluation
    cells: tuple[Cell, ...] = ()
    variants: Variants = Variants()
    differences: tuple[Differences, ...] = ()
    leads: tuple[Lead, ...] = ()
    others: tuple[Other, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the comparison that ``gaprune compare`` wrote to ``folder``; ``None`` if there is none.

        Raises:
            ModelError: If the file cannot be read, or is of another version.
        """
        path = folder / COMPARISON_FILE
        if not path.is_file():
            return None
        again = "Compare again with gaprune compare --out."
        return read_record(cls, path, damaged=again, older=again)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the evaluation tasks."""
        return self.dense.domains

    @property
    def name(self) -> str:
        """Name of the model that the comparison starts from; ``model`` if it was given in memory."""
        return str(self.settings.get("name") or self.settings.get("model") or "model")

    @property
    def warnings(self) -> list[str]:
        """Warnings about scores that are too good, to stand beside them."""
        return [f"Warning: {leak}" for leak in self.settings.get("leaks", ())]

    @property
    def searched(self) -> tuple[str, ...]:
        """Domains with tasks that all models were scored in with the parent's passages."""
        found = (domain for domain in self.domains if self.cells)
        return tuple(domain for domain in found if len(self._indexes(domain)) == len(self.cells))

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Sparsities in the order asked."""
        return tuple(dict.fromkeys(cell.sparsity for cell in self.cells))

    @property
    def triplets(self) -> tuple[int | None, ...]:
        """Numbers of triplets in the order asked; ``None`` for cells that use none, or all there are."""
        return tuple(dict.fromkeys(cell.triplets for cell in self.cells))

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria, variants included, in the order asked."""
        found = dict.fromkeys(cell.criterion for cell in self.cells)
        return tuple(name for name in self.variants.by_name if name in found) or tuple(found)

    def has(self, criterion: str, sparsity: float, triplets: int | None) -> bool:
        """Return whether there is a cell of this criterion at this sparsity and number of triplets."""
        return any(cell.key == (criterion, sparsity, triplets) for cell in self.cells)

    def summary(self, criterion: str, sparsity: float, domain: str, triplets: int | None = None) -> Summary:
        """Return one criterion at one sparsity in one domain of tasks, over all seeds.

        Raises:
            ConfigError: If there is no such cell, or there are several numbers of triplets and none is given.
        """
        found = [cell for cell in self.cells if (cell.criterion, cell.sparsity) == (criterion, sparsity)]
        counts = {cell.triplets for cell in found}
        if triplets is None and len(counts) == 1:
            triplets = counts.pop()
        means = [cell.evaluation.mean(domain) for cell in found if cell.triplets == triplets]
        if not means:
            listed = ", ".join(map(str, sorted(filter(None, counts)))) or "none"
            raise ConfigError(
                f"{criterion} was not compared at sparsity {sparsity:g} with {triplets} triplets.",
                f"The criteria are {', '.join(self.criteria)}; numbers of triplets of this one: {listed}.",
            )
        mean, dense = fmean(means), self.dense.mean(domain)
        return Summary(mean, stdev(means) if len(means) > 1 else None, mean / dense - 1 if dense else None)

    def header(self) -> list[str]:
        """Return the header of the table."""
        return self._table()[0]

    def rows(self) -> list[list[str]]:
        """Return the cells of the table as text: the dense parent, then the criteria of each sparsity as asked."""
        return self._table()[1:]

    def _table(self) -> list[list[str]]:
        """Return the table without the columns that say nothing."""
        domains = [domain or "all tasks" for domain in self.domains]
        searched = [f"{domain or 'search'} in the parent's index" for domain in self.searched]
        dense = [f"{self.dense.mean(domain):.4f}" for domain in self.domains]
        in_index = [f"{found.parent:.4f}" for domain in self.searched for found in self._indexes(domain)[:1]]
        beside = (
            ["one query: faster by", "batches: faster by", *(f"{domain}: points [95 %]" for domain in domains)]
            if self.others
            else []
        )
        first = ["criterion" if self.cells else "model", "change", "triplets", "reconstruction", "sparsity"]
        rows = [
            [*first, *domains, *searched, *beside],
            [
                "dense" if self.cells else self.name,
                "",
                "",
                "",
                "0",
                *dense,
                *in_index,
                *(["1.00 x"] * 2 + [""] * len(domains) if beside else []),
            ],
            *self._summaries(),
            *map(self._other, self.others),
        ]
        optional = {1: 1, 2: 2, 3: 1, 4: 1 if self.cells else 2}  # column, and how many different entries it needs
        dropped = {
            column
            for column, needed in optional.items()
            if len({row[column] for row in rows[1:] if row[column]}) < needed
        }
        return [[text for column, text in enumerate(row) if column not in dropped] for row in rows]

    def _other(self, other: Other) -> list[str]:
        """Return the row of another model."""
        values = []
        for domain in self.domains:
            mean, dense = other.evaluation.mean(domain), self.dense.mean(domain)
            values.append(str(Summary(mean, None, mean / dense - 1 if dense else None)))
        indexes = []
        for domain in self.searched:
            found = other.evaluation.parent_index(domain)
            indexes.append("" if found is None or found.value is None else f"{found.value:.4f}")
        beside = self._beside([other.speed], other.differences)
        return [other.name, "", "", "", "", *values, *indexes, *beside]

    def _beside(self, speeds: Sequence[Speed], differences: Mapping[str, Difference]) -> list[str]:
        """Return cost, as the mean over seeds, and differences."""
        if not self.others:
            return []
        means = [fmean(each) for each in zip(*((x.latency, x.throughput) for x in speeds), strict=True)]
        return [*(f"{mean:.2f} x" for mean in means), *(str(differences[domain]) for domain in self.domains)]

    def _summaries(self) -> Iterator[list[str]]:
        for sparsity, criterion, triplets in product(self.sparsities, self.criteria, self.triplets):
            if self.has(criterion, sparsity, triplets):
                variant = self.variants.by_name.get(criterion, Variant(base=criterion))
                count = "" if triplets is None else f"{triplets:,}"
                outcome = self._reconstruction(criterion, sparsity, triplets)
                values = [str(self.summary(criterion, sparsity, domain, triplets)) for domain in self.domains]
                indexes = [self._in_index((criterion, sparsity, triplets), domain) for domain in self.searched]
                key = criterion, sparsity, triplets
                speeds = [cell.speed for cell in self.cells if cell.key == key and cell.speed]
                found = next((each.by_domain for each in self.differences if each.key == key), {})
                row = [variant.base, variant.change, count, outcome, f"{sparsity:g}", *values, *indexes]
                yield [*row, *self._beside(speeds, found)]

    def _indexes(self, domain: str, key: tuple[str, float, int | None] | None = None) -> list[ParentIndex]:
        """Return how the cells with this key, or all, search the parent's index in a domain."""
        found = (cell.evaluation.parent_index(domain) for cell in self.cells if key in (None, cell.key))
        return [each for each in found if each is not None and each.value is not None]

    def _in_index(self, key: tuple[str, float, int | None], domain: str) -> str:
        """Return the score in the parent's index over the seeds, as the others are written."""
        found = self._indexes(domain, key)
        values, parent = [each.value for each in found if each.value is not None], found[0].parent
        mean = fmean(values)
        return str(Summary(mean, stdev(values) if values[1:] else None, mean / parent - 1 if parent else None))

    def _reconstruction(self, criterion: str, sparsity: float, triplets: int | None) -> str:
        """Return in how many of the cells the reconstruction was kept, in words; empty if none was tried."""
        found = [cell.reconstructed for cell in self.cells if cell.key == (criterion, sparsity, triplets)]
        kept, tried = found.count(True), len(found) - found.count(None)
        if not tried:
            return ""
        return "kept" if kept == tried else f"kept in {kept} of {tried}" if kept else "rolled back"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json", by_alias=True)
