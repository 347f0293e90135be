"""Curves of a comparison: quality by sparsity, by number of triplets, and by the value of a constant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from gaprune.evaluation.comparison import Comparison, Summary

__all__ = ["Curves", "Panel", "make_curves"]

Point = tuple[float, Summary]


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes.

    Args:
        title: Domain of the tasks, and the sparsity where it is fixed.
        dense: Mean score of the parent.
        lines: Points of each curve by its name, in order of x.
    """

    title: str
    dense: float
    lines: Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Curves:
    """A figure.

    Args:
        name: Its name in file names, such as ``by-sparsity``.
        x: What the panels go along.
        panels: Panels, one a domain for each sparsity that is fixed.
        columns: How many stand side by side: the domains.
    """

    name: str
    x: str
    panels: Sequence[Panel]
    columns: int


def make_curves(comparison: Comparison) -> list[Curves]:
    """Return a figure for everything of which a comparison has more than one: sparsities, triplets, values."""
    found = [_by_sparsity(comparison), _by_triplets(comparison)]
    options = dict.fromkeys(sweep.option for sweep in comparison.variants.sweeps)
    found += [_by_value(comparison, option) for option in options]
    return [curves for curves in found if any(panel.lines for panel in curves.panels)]


def _label(criterion: str, triplets: int | None, several: bool) -> str:
    return f"{criterion}, {triplets} triplets" if several and triplets is not None else criterion


def _panel(comparison: Comparison, domain: str, title: str, lines: Iterable[tuple[str, Iterable[Point]]]) -> Panel:
    """Return a panel of those lines that have more than one point."""
    sorted_lines = {label: sorted(points, key=lambda point: point[0]) for label, points in lines}
    several = {label: points for label, points in sorted_lines.items() if len(points) > 1}
    return Panel(", ".join(filter(None, [domain, title])), comparison.dense.mean(domain), several)


def _by_sparsity(comparison: Comparison) -> Curves:
    several = len(comparison.triplets) > 1

    def lines(domain: str) -> Iterator[tuple[str, list[Point]]]:
        for criterion, triplets in product(comparison.criteria, comparison.triplets):
            yield (
                _label(criterion, triplets, several),
                [
                    (sparsity, comparison.summary(criterion, sparsity, domain, triplets))
                    for sparsity in comparison.sparsities
                    if comparison.has(criterion, sparsity, triplets)
                ],
            )

    panels = [_panel(comparison, domain, "", lines(domain)) for domain in comparison.domains]
    return Curves("by-sparsity", "sparsity of the selected weights", panels, len(comparison.domains))


def _by_triplets(comparison: Comparison) -> Curves:
    def lines(domain: str, sparsity: float) -> Iterator[tuple[str, list[Point]]]:
        for criterion in comparison.criteria:
            yield (
                criterion,
                [
                    (triplets, comparison.summary(criterion, sparsity, domain, triplets))
                    for triplets in comparison.triplets
                    if triplets is not None and comparison.has(criterion, sparsity, triplets)
                ],
            )

    panels = [
        _panel(comparison, domain, f"sparsity {sparsity:g}", lines(domain, sparsity))
        for sparsity, domain in product(comparison.sparsities, comparison.domains)
    ]
    return Curves("by-triplets", "triplets a side", panels, len(comparison.domains))


def _by_value(comparison: Comparison, option: str) -> Curves:
    several = len(comparison.triplets) > 1

    def lines(domain: str, sparsity: float) -> Iterator[tuple[str, list[Point]]]:
        for sweep, triplets in product(comparison.variants.sweeps, comparison.triplets):
            if sweep.option == option:
                yield (
                    _label(sweep.base, triplets, several),
                    [
                        (float(value), comparison.summary(name, sparsity, domain, triplets))
                        for value, name in sweep.points
                        if not isinstance(value, str) and comparison.has(name, sparsity, triplets)
                    ],
                )

    panels = [
        _panel(comparison, domain, f"sparsity {sparsity:g}", lines(domain, sparsity))
        for sparsity, domain in product(comparison.sparsities, comparison.domains)
    ]
    return Curves(f"by-{option}", option, panels, len(comparison.domains))
