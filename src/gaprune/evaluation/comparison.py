"""A table of criteria by sparsity and seed, as the paper's table 1 is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

from gaprune.errors import ConfigError
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.variants import Variant, Variants

__all__ = ["Cell", "Comparison", "Summary"]


@dataclass(frozen=True)
class Cell:
    """The evaluation of one pruned model.

    Args:
        criterion: Name of the criterion, with its constants where it is a variant.
        sparsity: Fraction removed of the selected weights, or for a target the one asked for, of the parent's
            parameters, bytes or operations.
        seed: Seed of the calibration sample.
        evaluation: Its scores, with the dense parent's beside them.
        triplets: Triplets a side that were asked for; ``None`` for all there are, or a criterion that looks at none.
        repaired: Whether repair was kept; ``None`` where none was tried.
    """

    criterion: str
    sparsity: float
    seed: int
    evaluation: Evaluation
    triplets: int | None = None
    reconstructed: bool | None = None


@dataclass(frozen=True)
class Summary:
    """One criterion at one sparsity and number of triplets over the seeds, for one domain of tasks.

    Args:
        mean: Mean over tasks and seeds.
        spread: Standard deviation of the task mean over seeds; ``None`` for one seed.
        relative: ``mean`` against the dense parent, -0.02 is two per cent below; ``None`` where the parent has 0.
    """

    mean: float
    spread: float | None
    relative: float | None


@dataclass(frozen=True)
class Comparison:
    """Criteria side by side.

    Args:
        dense: The parent's evaluation.
        cells: One for every criterion, sparsity, number of triplets and seed.
        settings: What they have in common, for the record.
        variants: What the criteria are variants of; none are where it is left out.
    """

    dense: Evaluation
    cells: Sequence[Cell]
    settings: Mapping[str, Any]
    variants: Variants = field(default_factory=Variants)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the evaluation tasks."""
        return self.dense.domains

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Sparsities in the order asked."""
        return tuple(dict.fromkeys(cell.sparsity for cell in self.cells))

    @property
    def triplets(self) -> tuple[int | None, ...]:
        """Numbers of triplets in the order asked; ``None`` for cells that depend on none, or on all there are."""
        return tuple(dict.fromkeys(cell.triplets for cell in self.cells))

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria, variants included, in the order asked."""
        found = dict.fromkeys(cell.criterion for cell in self.cells)
        return tuple(name for name in self.variants.by_name if name in found) or tuple(found)

    def has(self, criterion: str, sparsity: float, triplets: int | None) -> bool:
        """Return whether there is a cell of this criterion at this sparsity and number of triplets."""
        return any(
            (cell.criterion, cell.sparsity, cell.triplets) == (criterion, sparsity, triplets) for cell in self.cells
        )

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

    def _columns(self) -> tuple[bool, bool, bool]:
        """Return whether the table says how criteria differ from what was asked, what they saw, and of repair."""
        changed = any(variant.change for variant in self.variants.by_name.values())
        return changed, len(self._counts()) > 1, any(cell.reconstructed is not None for cell in self.cells)

    def _counts(self) -> list[int | None]:
        """Return the numbers of triplets where criteria that look at none do not count."""
        return [count for count in self.triplets if count is not None]

    def _row(
        self, name: str, change: str, triplets: str, reconstruct: str, sparsity: str, values: Sequence[str]
    ) -> list[str]:
        optional = zip(self._columns(), (change, triplets, reconstruct), strict=True)
        return [name, *(text for shown, text in optional if shown), sparsity, *values]

    def _repair(self, criterion: str, sparsity: float, triplets: int | None) -> str:
        """Return in how many of the cells repair was kept, in words; empty where none was tried."""
        found = [
            cell.reconstructed
            for cell in self.cells
            if (cell.criterion, cell.sparsity, cell.triplets) == (criterion, sparsity, triplets)
        ]
        kept, tried = found.count(True), len(found) - found.count(None)
        return "" if not tried else "kept" if kept == tried else f"kept in {kept} of {tried}" if kept else "left out"

    def rows(self) -> list[list[str]]:
        """Return the table's cells as text: the dense parent, then each sparsity's criteria in the order asked."""
        return [
            self._row("dense", "", "", "", "0", [f"{self.dense.mean(domain):.4f}" for domain in self.domains]),
            *self._summaries(),
        ]

    def _summaries(self) -> Iterator[list[str]]:
        for sparsity in self.sparsities:
            for criterion in self.criteria:
                variant = self.variants.by_name.get(criterion, Variant(criterion))
                for triplets in self.triplets:
                    if self.has(criterion, sparsity, triplets):
                        found = [self.summary(criterion, sparsity, domain, triplets) for domain in self.domains]
                        count = "" if triplets is None else f"{triplets:,}"
                        values = [_text(summary) for summary in found]
                        reconstruct = self._repair(criterion, sparsity, triplets)
                        yield self._row(variant.base, variant.change, count, reconstruct, f"{sparsity:g}", values)

    def header(self) -> list[str]:
        """Return the table's header."""
        domains = [domain or "all tasks" for domain in self.domains]
        return self._row("criterion", "change", "triplets", "reconstruct", "sparsity", domains)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        return {
            "settings": dict(self.settings),
            "dense": self.dense.as_dict(),
            "variants": {name: asdict(variant) for name, variant in self.variants.by_name.items()},
            "sweeps": [asdict(sweep) for sweep in self.variants.sweeps],
            "cells": [
                {
                    "criterion": cell.criterion,
                    "sparsity": cell.sparsity,
                    "triplets": cell.triplets,
                    "seed": cell.seed,
                    "repaired": cell.reconstructed,
                    "means": {domain: cell.evaluation.mean(domain) for domain in self.domains},
                    "evaluation": cell.evaluation.as_dict(),
                }
                for cell in self.cells
            ],
        }


def _text(summary: Summary) -> str:
    spread = "" if summary.spread is None else f" ± {summary.spread:.4f}"
    relative = "" if summary.relative is None else f" ({summary.relative:+.1%})"
    return f"{summary.mean:.4f}{spread}{relative}"
