"""Variants of criteria: one term switched off, or one constant set to another value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gaprune.criteria.base import Criterion, Granularity
from gaprune.criteria.names import with_option
from gaprune.criteria.needs import DataKind
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError, suggest

__all__ = ["Sweep", "Variant", "Variants", "make_variants"]


@dataclass(frozen=True)
class Variant:
    """A criterion as it is compared.

    Args:
        base: The criterion as it was asked for.
        change: What is different from it, in words; empty for the criterion itself.
    """

    base: str
    change: str = ""


@dataclass(frozen=True)
class Sweep:
    """A constant of one criterion and the names of the variants that have its values.

    Args:
        base: The criterion as it was asked for, whose own value is among them.
        option: The constant.
        points: Value and name, in order of the values where they are numbers.
    """

    base: str
    option: str
    points: tuple[tuple[float | str | bool, str], ...]


@dataclass(frozen=True)
class Variants:
    """All criteria of a comparison.

    Args:
        by_name: Each with what it is a variant of; names are as :func:`gaprune.criteria.create` takes them.
        sweeps: Which of them belong together as values of one constant.
    """

    by_name: Mapping[str, Variant] = field(default_factory=dict)
    sweeps: tuple[Sweep, ...] = ()

    def create(self, kinds: Collection[DataKind], *, reconstructs: bool) -> dict[str, Criterion]:
        """Return the criteria by name, as :meth:`gaprune.criteria.Criterion.for_run` gives them."""
        return {name: create(name).for_run(kinds, reconstructs=reconstructs) for name in self.by_name}


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

    Args:
        criteria: Names, with constants of their own where wanted.
        kinds: Of data that are named, ``domain`` and ``general``.
        reconstructs: Whether whole units go and what is left is refit.
        granularities: What goes.
        ablate: Whether each term that is on in a criterion's formulas for what goes is switched off in turn.
        sweeps: Constants and their values; each criterion that has the constant takes them, one at a time.

    Raises:
        ConfigError: If there is no such criterion or constant, a value makes no sense, or nothing can be switched off.
    """
    by_name: dict[str, Variant] = {}
    found: list[Sweep] = []
    created = {name: create(name).for_run(kinds, reconstructs=reconstructs) for name in criteria}
    for option in sweeps:
        _check_option(option, created)
    for base, criterion in created.items():
        by_name[base] = Variant(base)
        terms = {
            option: off
            for granularity in granularities
            for option, off in criterion.terms.get(granularity, {}).items()
        }
        for option, off in terms.items() if ablate else ():
            if getattr(criterion, option) != off:
                by_name[with_option(base, option, off)] = Variant(base, f"without {option}")
        for option, values in sweeps.items():
            if option in type(criterion).model_fields:
                sweep = _sweep(base, criterion, option, values)
                for value, name in sweep.points:
                    by_name.setdefault(name, Variant(base, f"{option}={value}"))
                found.append(sweep)
    if ablate and not any(variant.change.startswith("without") for variant in by_name.values()):
        raise ConfigError(
            f"ablate: {', '.join(created)} {'has' if len(created) == 1 else 'have'} no term that is on for "
            f"{' and '.join(granularities) or 'tokens'}.",
            "Switch one on (dai:alpha=0.2), name another criterion, or leave --ablate (ablate=True) out.",
        )
    return Variants(by_name, tuple(found))


def _sweep(base: str, criterion: Criterion, option: str, values: Sequence[object]) -> Sweep:
    """Return the variants with these values; the criterion's own value stands for itself."""
    points = {getattr(criterion, option): base}
    for value in values:
        name = with_option(base, option, value)
        points.setdefault(getattr(create(name), option), name)
    numbers = all(isinstance(value, int | float) for value in points)
    return Sweep(base, option, tuple(sorted(points.items()) if numbers else points.items()))


def _check_option(option: str, created: Mapping[str, Criterion]) -> None:
    known = dict.fromkeys(field for criterion in created.values() for field in type(criterion).model_fields)
    if option not in known:
        raise ConfigError(
            f"sweep: none of {', '.join(created)} has a constant {option!r}.{suggest(option, known)}",
            f"Their constants: {', '.join(known) or 'none'}; `gaprune criteria` says what they are.",
        )
