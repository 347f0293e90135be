"""Finding the columns of a file that hold the query, the positives and the negatives."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gaprune.errors import ConfigError, DataError, suggest
from gaprune.util.json_lines import Record

NAMES = {
    "query": ("query", "anchor", "question", "sentence1"),
    "positive": ("positive", "pos", "positives", "passage", "answer", "sentence2"),
    "negative": ("negative", "neg"),
    "negatives": ("negatives",),
}
"""Column names that are recognised without a mapping; case is ignored."""

_NUMBERED = re.compile(r"(?:negative|neg)_?(\d+)", re.IGNORECASE)
_LISTS = {"pos", "positives", "neg", "negatives"}
"""Columns in which a cell of CSV may hold a list."""

_LABELS = {"label", "labels"}
_RATINGS = {"score", "scores", "similarity", "similarity_score"} | _LABELS
_RATED = {"sentence1": _RATINGS, "sentence2": _RATINGS, "passage": _LABELS, "answer": _LABELS}
"""Columns of a text that need not match the other, by their names, and the columns that would say so."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a record that make triplets; ``lists`` are those whose texts may be written as a list."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    lists: frozenset[str]


def check_mapping(columns: Mapping[str, str] | None) -> None:
    """Check the names that a mapping of columns uses.

    Raises:
        ConfigError: If a name is not a part of a triplet.
    """
    for name in columns or ():
        if name not in NAMES and not re.fullmatch(r"negative_\d+", name):
            raise ConfigError(
                f"columns: {name!r} is not a part of a triplet.{suggest(name, NAMES)}",
                f"Map {', '.join(NAMES)}, or negative_1 to negative_n, to columns of the file.",
            )


def is_triplet(record: Record) -> bool:
    """Return whether a column of ``record`` is named like a part of a triplet."""
    names = {name for part in NAMES.values() for name in part} | {"set"}
    return any(column.strip().lower() in names or _NUMBERED.fullmatch(column.strip()) for column in record.fields)


def recognised(record: Record, part: str, names: Sequence[str], mapped: Collection[str] = ()) -> str | None:
    """Return the one column named like one of ``names`` and not in ``mapped``, or ``None``.

    Raises:
        DataError: If several columns match.
    """
    found = [name for name in record.fields if name.strip().lower() in names and name not in mapped]
    if len(found) > 1:
        raise _ambiguous(record, part, found, found[0])
    return found[0] if found else None


def find_columns(record: Record, columns: Mapping[str, str]) -> Columns:
    """Return the columns of ``record`` that make triplets; all others are ignored.

    Raises:
        DataError: If the query or the positive has no column, a mapped column is missing, several columns match, or
            the record is a rated pair.
    """
    query, positive = (_required(record, part, columns) for part in ("query", "positive"))
    for name in {query, positive} - set(columns.values()):
        _refuse_ratings(record, query, positive, _RATED.get(name.strip().lower(), set()))
    negatives = _negatives(record, columns)
    lists = {name for name in (positive, *negatives) if name.strip().lower() in _LISTS}
    lists |= {columns[part] for part in columns if part == "negatives"}
    return Columns(query, positive, negatives, frozenset(lists))


def _negatives(record: Record, columns: Mapping[str, str]) -> tuple[str, ...]:
    chosen = [part for part in columns if part.startswith("negative")]
    if chosen:
        return tuple(_mapped(record, part, columns[part]) for part in sorted(chosen, key=_order))
    mapped = columns.values()
    first = recognised(record, "negative", NAMES["negative"], mapped)
    numbered = [name for name in record.fields if name not in mapped and _NUMBERED.fullmatch(name.strip())]
    single = (*([first] if first else []), *sorted(numbered, key=_order))
    several = recognised(record, "negatives", NAMES["negatives"], mapped)
    if single and several:
        raise _ambiguous(record, "negatives", [*single, several], several)
    return (*single, *([several] if several else []))


def _order(name: str) -> int:
    number = re.search(r"\d+$", name.strip())
    return int(number[0]) if number else 0


def _required(record: Record, part: str, columns: Mapping[str, str]) -> str:
    if part in columns:
        return _mapped(record, part, columns[part])
    found = recognised(record, part, NAMES[part], columns.values())
    if found is None:
        near = next((hint for name in NAMES[part] if (hint := suggest(name, record.fields))), "")
        raise record.error(
            f"has no {part}: none of its columns ({record.columns}) is named "
            f"{' or '.join(map(repr, NAMES[part]))}.{near}",
            f"Rename the column, or map it: {_mapping(part, 'NAME')}. A table whose first row is data already needs "
            "a row of names before it.",
        )
    return found


def _refuse_ratings(record: Record, query: str, positive: str, names: Collection[str]) -> None:
    ratings = [name for name in record.fields if name.strip().lower() in names]
    if ratings:
        raise record.error(
            f"holds a pair of texts that {ratings[0]!r} rates, which need not match.",
            f"Write only the pairs that match, without {ratings[0]!r}; or, if all match, map the columns: "
            f"{_mapping('query', query)}, and positive to {positive}.",
        )


def _mapped(record: Record, part: str, column: str) -> str:
    if column not in record.fields:
        raise record.error(
            f"there is no column {column!r}, which columns maps to {part!r}.{suggest(column, record.fields)}",
            f"The columns are {record.columns}.",
        )
    return column


def _ambiguous(record: Record, part: str, found: Sequence[str], example: str) -> DataError:
    return record.error(
        f"the columns {', '.join(map(repr, found))} could each be the {part}.",
        f"Name the one to use: {_mapping(part, example)}.",
    )


def _mapping(part: str, column: str) -> str:
    return (
        f"columns={{'{part}': '{column}'}} (--set columns.{part}={column}, for gaprune data --column {part}={column})"
    )
