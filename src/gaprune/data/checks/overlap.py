"""Texts that two sets have in common, and how sentences name their places."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gaprune.data.triplets import Triplets
from gaprune.data.words import normalise

_NAMED = 3
"""Number of places named in a sentence."""

_LISTED = 5
"""Number of places kept in a report."""


def shortened(sources: Iterable[str], total: int | None = None) -> str:
    """Return the first few different ``sources``, and how many of ``total`` (all by default) are not named."""
    named = list(dict.fromkeys(source for source in sources if source))
    left = (len(named) if total is None else total) - min(len(named), _NAMED)
    return f"{', '.join(named[:_NAMED])}{f' and {left:,} more' if named and left > 0 else ''}"


def repeated(keys: Sequence[Hashable], sources: Sequence[str]) -> dict[int, str]:
    """Return by their number the places of keys that occurred before, each with the place of the first occurrence."""
    first: dict[Hashable, str] = {}
    again: dict[int, str] = {}
    for number, (key, source) in enumerate(zip(keys, sources, strict=True)):
        if key in first:
            again[number] = _with_first(source, first[key]) if source else ""
        else:
            first[key] = source
    return again


def _with_first(source: str, first: str) -> str:
    """Return both places; within one file the line of the first is enough."""
    if source == first:
        return source
    file, _, line = first.rpartition(":")
    if file != source.rpartition(":")[0]:
        return f"{source} (as {first})"
    return f"{source} (as {'' if line.startswith('record') else 'line '}{line})"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Texts of a set that another set contains too; case, spacing and punctuation are ignored.

    Args:
        left: The set, ``domain`` or ``general``.
        right: ``general``, or the name of the evaluation task.
        is_evaluation: Whether the other set is an evaluation task.
        count: Number of distinct texts of the set that are in both.
        distinct: Number of distinct texts of the set.
        sources: Places of the first few, ``file:line`` in the set and, if it has lines, in the other set.
    """

    left: str
    right: str
    is_evaluation: bool
    count: int
    distinct: int
    sources: tuple[str, ...]

    @property
    def amount(self) -> str:
        """How many of the set's distinct texts are in both."""
        return f"{self.count:,} of {self.distinct:,} distinct texts ({self.count / self.distinct:.1%})"

    @property
    def problem(self) -> str:
        """The overlap as a sentence."""
        sentence = f"{self.left}: {self.amount} also in the "
        if self.is_evaluation:
            sentence += f"evaluation task {self.right}, whose result would be too good"
        else:
            sentence += "general set, so domain and general data differ less"
        where = shortened(self.sources, self.count)
        return f"{sentence}: {where}." if where else f"{sentence}."

    @property
    def leak(self) -> str:
        """What an overlap with an evaluation task means for its result, without places: for a record."""
        return f"{self.left} data: {self.amount} also in the evaluation task {self.right}, whose result is too good."


def places(triplets: Triplets, normal: Mapping[str, str]) -> dict[str, str]:
    """Return every distinct text of a set in normal form, with the place of its first occurrence."""
    found: dict[str, str] = {}
    for item in triplets:
        roles = zip(("query", "positive"), (item.query, item.positive), strict=True)
        for role, text in (*roles, *(("negative", negative) for negative in item.negatives)):
            found.setdefault(normal[text], f"{item.source} ({role})" if item.source else "")
    return found


def in_tasks(role: str, texts: Iterable[str], evaluation: Mapping[str, Iterable[str]]) -> list[Overlap]:
    """Return the overlaps of the texts of a set with the texts of evaluation tasks, by name, where there are any."""
    known = dict.fromkeys(map(normalise, texts), "") if evaluation else {}
    found = (
        overlap(known, dict.fromkeys(map(normalise, held_out), ""), names=(role, task), evaluation=True)
        for task, held_out in evaluation.items()
    )
    return [each for each in found if each.count]


def overlap(left: Mapping[str, str], right: Mapping[str, str], *, names: tuple[str, str], evaluation: bool) -> Overlap:
    """Return the texts of ``left`` that ``right`` contains too."""
    common = [text for text in left if text in right]
    return Overlap(
        left=names[0],
        right=names[1],
        is_evaluation=evaluation,
        count=len(common),
        distinct=len(left),
        sources=tuple(left[text] + (f" = {right[text]}" if right[text] else "") for text in common[:_LISTED]),
    )
