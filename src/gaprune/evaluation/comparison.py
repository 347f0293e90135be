"""A table of criteria by sparsity and seed, as table 1 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from statistics import fmean, stdev
from typing import Any

from gaprune.errors import ConfigError
from gaprune.evaluation.quality.index import ParentIndex
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.variants import Variant, Variants

__all__ = ["Cell", "Comparison", "Summary"]


@dataclass(frozen=True)
class Cell:
    """The evaluation of one pruned model.

    Args:
        criterion: Name of the criterion, with the constants of a variant.
        sparsity: Fraction removed of the selected weights; for a target, the fraction asked for of the parent's
            parameters, bytes or operations.
        seed: Seed of the calibration sample.
        evaluation: Its scores, with the dense parent's beside them.
        triplets: Triplets of each kind that were asked for; ``None`` for all there are, or if the criterion uses none.
        reconstructed: Whether the reconstruction was kept; ``None`` if none was tried.
    """

    criterion: str
    sparsity: float
    seed: int
    evaluation: Evaluation
    triplets: int | None = None
    reconstructed: bool | None = None

    @property
    def key(self) -> tuple[str, float, int | None]:
        """What cells of several seeds have in common: criterion, sparsity and number of triplets."""
        return self.criterion, self.sparsity, self.triplets


@dataclass(frozen=True)
class Summary:
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


@dataclass(frozen=True)
class Comparison:
    """Criteria side by side."""

    dense: Evaluation
    cells: Sequence[Cell]
    settings: Mapping[str, Any]
    variants: Variants = field(default_factory=Variants)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the evaluation tasks."""
        return self.dense.domains

    @property
    def searched(self) -> tuple[str, ...]:
        """Domains with tasks that all models were scored in with the parent's passages."""
        return tuple(domain for domain in self.domains if len(self._indexes(domain)) == len(self.cells))

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
        rows = [
            ["criterion", "change", "triplets", "reconstruct", "sparsity", *domains, *searched],
            ["dense", "", "", "", "0", *dense, *in_index],
            *self._summaries(),
        ]
        optional = {1: 1, 2: 2, 3: 1}  # column, and how many different entries it needs
        dropped = {
            column
            for column, needed in optional.items()
            if len({row[column] for row in rows[1:] if row[column]}) < needed
        }
        return [[text for column, text in enumerate(row) if column not in dropped] for row in rows]

    def _summaries(self) -> Iterator[list[str]]:
        for sparsity, criterion, triplets in product(self.sparsities, self.criteria, self.triplets):
            if self.has(criterion, sparsity, triplets):
                variant = self.variants.by_name.get(criterion, Variant(criterion))
                count = "" if triplets is None else f"{triplets:,}"
                outcome = self._reconstruction(criterion, sparsity, triplets)
                values = [str(self.summary(criterion, sparsity, domain, triplets)) for domain in self.domains]
                indexes = [self._in_index((criterion, sparsity, triplets), domain) for domain in self.searched]
                yield [variant.base, variant.change, count, outcome, f"{sparsity:g}", *values, *indexes]

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
        """Return everything as plain data for JSON."""
        return {
            "settings": dict(self.settings),
            "dense": self.dense.as_dict(),
            "variants": {name: asdict(variant) for name, variant in self.variants.by_name.items()},
            "sweeps": [asdict(sweep) for sweep in self.variants.sweeps],
            "cells": [self._cell(cell) for cell in self.cells],
        }

    def _cell(self, cell: Cell) -> dict[str, Any]:
        return {
            "criterion": cell.criterion,
            "sparsity": cell.sparsity,
            "triplets": cell.triplets,
            "seed": cell.seed,
            "reconstructed": cell.reconstructed,
            "means": {domain: cell.evaluation.mean(domain) for domain in self.domains},
            "evaluation": cell.evaluation.as_dict(),
        }
