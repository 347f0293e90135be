"""Places in files, as sentences name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

_NAMED = 3
"""Number of places named in a sentence."""


def shortened(sources: Iterable[str], total: int | None = None) -> str:
    """Return the first few of ``sources``, and how many of ``total`` (all of them by default) are not named."""
    named = [source for source in sources if source]
    left = (len(named) if total is None else total) - _NAMED
    return f"{', '.join(named[:_NAMED])}{f' and {left:,} more' if named and left > 0 else ''}"


def repeated(keys: Sequence[Hashable], sources: Sequence[str]) -> list[str]:
    """Return the places of keys that occurred before, each with the place of the first occurrence."""
    first: dict[Hashable, str] = {}
    again: list[str] = []
    for key, source in zip(keys, sources, strict=True):
        if key in first:
            again.append(_with_first(source, first[key]) if source else "")
        else:
            first[key] = source
    return again


def _with_first(source: str, first: str) -> str:
    """Return both places; within one file the line of the first is enough."""
    file, _, line = first.rpartition(":")
    if file != source.rpartition(":")[0]:
        return f"{source} (as {first})"
    return f"{source} (as {'' if line.startswith('record') else 'line '}{line})"
