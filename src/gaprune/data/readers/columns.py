"""Finding the columns of a file that hold the query, the positive and the negatives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gaprune.util.json_lines import Record

__all__ = ["NAMES", "Columns", "check_mapping", "find_columns", "recognised"]

NAMES = {
    "query": ("query", "anchor", "question"),
    "positive": ("positive", "pos", "passage", "answer"),
    "negative": ("negative", "neg"),
    "negatives": ("negatives",),
}
"""Column names that are recognised without a mapping; case is ignored."""

_NUMBERED = re.compile(r"(?:negative|neg)_?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a record that make a triplet."""

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    negatives_list: str | None = None


def check_mapping(columns: Mapping[str, str] | None) -> None:
    """Check the names that a mapping of columns uses.

    Raises:
        ConfigError: If a name is not a part of a triplet.
    """
    for name in columns or ():
        if name not in NAMES:
            raise ConfigError(
                f"columns: {name!r} is not a part of a triplet.{suggest(name, NAMES)}",
                f"Map {', '.join(NAMES)} to columns of the file.",
            )


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
    """Return the columns of ``record`` that make a triplet; all others are ignored.

    Raises:
        DataError: If the query or the positive has no column, a mapped column is missing, or several columns match.
    """
    query, positive = (_required(record, part, columns) for part in ("query", "positive"))
    if "negative" in columns or "negatives" in columns:
        one = [_mapped(record, "negative", columns["negative"])] if "negative" in columns else []
        several = _mapped(record, "negatives", columns["negatives"]) if "negatives" in columns else None
        return Columns(query, positive, tuple(one), several)
    mapped = columns.values()
    first = recognised(record, "negative", NAMES["negative"], mapped)
    numbered = sorted(
        (int(match[1]), name)
        for name in record.fields
        if name not in mapped and (match := _NUMBERED.fullmatch(name.strip()))
    )
    single = (*([first] if first else []), *(name for _, name in numbered))
    several = recognised(record, "negatives", NAMES["negatives"], mapped)
    if single and several:
        raise _ambiguous(record, "negatives", [*single, several], several)
    return Columns(query, positive, single, several)


def _required(record: Record, part: str, columns: Mapping[str, str]) -> str:
    if part in columns:
        return _mapped(record, part, columns[part])
    found = recognised(record, part, NAMES[part], columns.values())
    if found is None:
        near = next((hint for name in NAMES[part] if (hint := suggest(name, record.fields))), "")
        raise record.error(
            f"has no {part}: none of its columns ({record.columns}) is named "
            f"{' or '.join(map(repr, NAMES[part]))}.{near}",
            f"Rename the column, or map it: {_mapping(part, 'NAME')}.",
        )
    return found


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
