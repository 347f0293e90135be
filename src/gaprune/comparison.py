"""A table of criteria by sparsity and seed, as the paper's table 1 is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from gaprune.evaluation import Evaluation
from gaprune.report.markdown import markdown_table

__all__ = ["Cell", "Comparison", "Summary"]


@dataclass(frozen=True)
class Cell:
    """The evaluation of one pruned model.

    Args:
        criterion: Name of the criterion.
        sparsity: Fraction of the selected weights removed.
        seed: Seed of the calibration sample.
        evaluation: Its scores, with the dense parent's beside them.
    """

    criterion: str
    sparsity: float
    seed: int
    evaluation: Evaluation


@dataclass(frozen=True)
class Summary:
    """One criterion at one sparsity over the seeds, for one domain of tasks.

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
        cells: One for every criterion, sparsity and seed.
        settings: What they have in common, for the record.
    """

    dense: Evaluation
    cells: Sequence[Cell]
    settings: Mapping[str, Any]

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains of the evaluation tasks."""
        return self.dense.domains

    def summary(self, criterion: str, sparsity: float, domain: str) -> Summary:
        """Return one criterion at one sparsity in one domain of tasks, over all seeds."""
        means = [
            cell.evaluation.mean(domain)
            for cell in self.cells
            if cell.criterion == criterion and cell.sparsity == sparsity
        ]
        mean, dense = fmean(means), self.dense.mean(domain)
        return Summary(mean, stdev(means) if len(means) > 1 else None, mean / dense - 1 if dense else None)

    def rows(self) -> list[list[str]]:
        """Return the table's cells as text: the dense parent, then each sparsity's criteria in the order asked."""
        rows = [["dense", "0", *(f"{self.dense.mean(domain):.4f}" for domain in self.domains)]]
        for sparsity in dict.fromkeys(cell.sparsity for cell in self.cells):
            for criterion in dict.fromkeys(cell.criterion for cell in self.cells):
                found = [self.summary(criterion, sparsity, domain) for domain in self.domains]
                rows.append([criterion, f"{sparsity:g}", *(_text(summary) for summary in found)])
        return rows

    def header(self) -> list[str]:
        """Return the table's header."""
        return ["criterion", "sparsity", *(domain or "all tasks" for domain in self.domains)]

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        return markdown_table(self.header(), self.rows())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        return {
            "settings": dict(self.settings),
            "dense": self.dense.as_dict(),
            "cells": [
                {
                    "criterion": cell.criterion,
                    "sparsity": cell.sparsity,
                    "seed": cell.seed,
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
