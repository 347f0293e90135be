"""Curves of a comparison: quality by sparsity, by number of triplets, and by the value of a constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from gaprune.evaluation.comparison import Comparison, Summary

_Key = tuple[str, float, int | None]
"""Criterion, sparsity and number of triplets of a cell."""

_Lines = Mapping[str, Sequence[tuple[float, _Key]]]
"""Value of x and the cell of every point, by label."""


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes."""

    title: str
    dense: float
    lines: Mapping[str, Sequence[tuple[float, Summary]]]


@dataclass(frozen=True)
class Curves:
    """A figure."""

    name: str
    x: str
    panels: Sequence[Panel]
    columns: int


def make_curves(comparison: Comparison) -> list[Curves]:
    """Return a figure for everything of which a comparison has more than one: sparsities, triplets, values."""
    criteria, sparsities, counts = comparison.criteria, comparison.sparsities, comparison.triplets
    sweeps = comparison.variants.sweeps

    def label(name: str, count: int | None) -> str:
        return f"{name}, {count} triplets" if len(counts) > 1 and count is not None else name

    def by_value(option: str, sparsity: float) -> _Lines:
        return {
            label(sweep.base, count): [
                (float(value), (name, sparsity, count)) for value, name in sweep.points if not isinstance(value, str)
            ]
            for sweep, count in product(sweeps, counts)
            if sweep.option == option
        }

    by_sparsity: _Lines = {
        label(name, count): [(sparsity, (name, sparsity, count)) for sparsity in sparsities]
        for name, count in product(criteria, counts)
    }
    by_triplets: dict[str, _Lines] = {
        f"sparsity {sparsity:g}": {
            name: [(count, (name, sparsity, count)) for count in counts if count is not None] for name in criteria
        }
        for sparsity in sparsities
    }
    figures = [
        _figure(comparison, "by-sparsity", "sparsity of the selected weights", {"": by_sparsity}),
        _figure(comparison, "by-triplets", "triplets of each kind", by_triplets),
    ]
    for option in dict.fromkeys(sweep.option for sweep in sweeps):
        lines = {f"sparsity {sparsity:g}": by_value(option, sparsity) for sparsity in sparsities}
        figures.append(_figure(comparison, f"by-{option}", option, lines))
    return [figure for figure in figures if any(panel.lines for panel in figure.panels)]


def _figure(comparison: Comparison, name: str, x: str, lines_by_title: Mapping[str, _Lines]) -> Curves:
    """Return a figure with a panel per title and domain, of lines that have more than one point."""
    panels = []
    for (title, lines), domain in product(lines_by_title.items(), comparison.domains):
        found = {
            label: sorted(
                (
                    (at, comparison.summary(criterion, sparsity, domain, triplets))
                    for at, (criterion, sparsity, triplets) in points
                    if comparison.has(criterion, sparsity, triplets)
                ),
                key=lambda point: point[0],
            )
            for label, points in lines.items()
        }
        several = {label: points for label, points in found.items() if len(points) > 1}
        panels.append(Panel(", ".join(filter(None, [domain, title])), comparison.dense.mean(domain), several))
    return Curves(name, x, panels, len(comparison.domains))
