"""Variants of criteria: one term switched off, or one constant set to another value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from pydantic import Field

from gaprune.criteria.base import Criterion, Granularity
from gaprune.criteria.needs import DataKind
from gaprune.criteria.registry import create, with_option
from gaprune.errors import ConfigError, suggest
from gaprune.util.records import Record


class Variant(Record):
    """A criterion as it is compared."""

    base: str
    change: str = ""


class Sweep(Record):
    """A constant of one criterion and the names of the variants that have its values.

    Args:
        base: The criterion as it was asked for, whose own value is among them.
        option: The constant.
        points: Value and name, in order of the values if they are numbers.
    """

    base: str
    option: str
    points: tuple[tuple[float | str | bool, str], ...]


class Variants(Record):
    """All criteria of a comparison.

    Args:
        by_name: Each with what it is a variant of; names as :func:`gaprune.criteria.create` takes them.
        sweeps: Which of them belong together as values of one constant.
    """

    by_name: dict[str, Variant] = Field(default_factory=dict)
    sweeps: tuple[Sweep, ...] = ()


def make_variants(
    criteria: Sequence[str],
    *,
    kinds: Collection[DataKind],
    reconstructs: bool,
    granularities: Collection[Granularity],
    ablate: bool,
    sweeps: Mapping[str, Sequence[object]],
) -> Variants:
    """Return the criteria asked for, each followed by its variants.

    Raises:
        ConfigError: If there is no such criterion or constant, a value makes no sense, or nothing can be switched off.
    """
    created = {name: create(name).for_run(kinds, reconstructs=reconstructs) for name in criteria}
    for option in sweeps:
        _check_option(option, created)
    by_name: dict[str, Variant] = {}
    found: list[Sweep] = []
    for base, criterion in created.items():
        by_name[base] = Variant(base=base)
        for name, option in _ablations(base, criterion, granularities) if ablate else ():
            by_name[name] = Variant(base=base, change=f"without {option}")
        for option, values in sweeps.items():
            if option in type(criterion).model_fields:
                found.append(_sweep(base, criterion, option, values))
                for value, name in found[-1].points:
                    by_name.setdefault(name, Variant(base=base, change=f"{option}={value}"))
    if ablate and not any(variant.change.startswith("without") for variant in by_name.values()):
        raise ConfigError(
            f"ablate: {', '.join(created)} {'has' if len(created) == 1 else 'have'} no term that is on for "
            f"{' and '.join(granularities) or 'tokens'}.",
            "Switch one on (dai:alpha=0.2), name another criterion, or leave --ablate (ablate=True) out.",
        )
    return Variants(by_name=by_name, sweeps=tuple(found))


def _ablations(base: str, criterion: Criterion, granularities: Collection[Granularity]) -> Iterator[tuple[str, str]]:
    """Yield the name of every variant without a term, and the term."""
    terms = {option: off for each in granularities for option, off in criterion.terms.get(each, {}).items()}
    for option, off in terms.items():
        if getattr(criterion, option) != off:
            yield with_option(base, option, off), option


def _sweep(base: str, criterion: Criterion, option: str, values: Sequence[object]) -> Sweep:
    """Return the variants with these values; the criterion itself stands for its own value."""
    points = {getattr(criterion, option): base}
    for value in values:
        name = with_option(base, option, value)
        points.setdefault(getattr(create(name), option), name)
    numbers = all(isinstance(value, int | float) for value in points)
    return Sweep(base=base, option=option, points=tuple(sorted(points.items()) if numbers else points.items()))


def _check_option(option: str, created: Mapping[str, Criterion]) -> None:
    known = dict.fromkeys(field for criterion in created.values() for field in type(criterion).model_fields)
    if option not in known:
        raise ConfigError(
            f"sweep: none of {', '.join(created)} has a constant {option!r}.{suggest(option, known)}",
            f"Their constants: {', '.join(known) or 'none'}; `gaprune criteria` describes them.",
        )
