"""Which column of a file is the query, the positive and the negatives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from gaprune.data.records import Record

__all__ = ["NAMES", "Columns", "check_mapping", "find_columns", "recognised"]

NAMES = {
    "query": ("query", "anchor", "question"),
    "positive": ("positive", "pos", "passage", "answer"),
    "negative": ("negative", "neg"),
    "negatives": ("negatives",),
}
"""Names that are recognised without a mapping, in any case of letters."""

_NUMBERED = re.compile(r"(?:negative|neg)_?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a record that matter.

    Args:
        query: Column of the query.
        positive: Column of the positive.
        negatives: Columns that hold one negative each, in their order.
        negatives_list: Column that holds a list of negatives, if there is one.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    negatives_list: str | None = None


def check_mapping(columns: Mapping[str, str] | None) -> None:
    """Check that a mapping names only what triplets have.

    Raises:
        ConfigError: If it names anything else.
    """
    for word in columns or ():
        if word not in NAMES:
            raise ConfigError(
                f"columns: {word!r} is nothing a triplet has.{suggest(word, NAMES)}",
                f"Map {', '.join(NAMES)} to columns of the file.",
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _mapped(record: Record, word: str, column: str) -> str:
    if column in record.fields:
        return column
    raise record.error(
        f"there is no column {column!r}, which columns maps to {word!r}.{suggest(column, record.fields)}",
        f"The columns there are: {_listed(list(record.fields))}.",
    )


def recognised(record: Record, word: str, names: Sequence[str], mapped: Collection[str] = ()) -> str | None:
    """Return the one column, of those not ``mapped``, that goes by one of ``names``, ``None`` where there is none.

    Raises:
        DataError: If several could be the ``word``.
    """
    found = [name for name in record.fields if name.strip().lower() in names and name not in mapped]
    if len(found) > 1:
        raise record.error(
            f"the columns {_listed(found)} could each be the {word}.",
            f"Say which one: columns={{'{word}': '{found[0]}'}} (--set columns.{word}={found[0]}).",
        )
    return found[0] if found else None


def _missing(record: Record, word: str) -> DataError:
    near = next((hint for name in NAMES[word] if (hint := suggest(name, record.fields))), "")
    return record.error(
        f"has no {word}: none of its columns ({_listed(list(record.fields))}) is called "
        f"{' or '.join(map(repr, NAMES[word]))}.{near}",
        f"Rename the column, or map it: columns={{'{word}': 'your column'}} (--set columns.{word}=...).",
    )


def _negatives(record: Record, columns: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    """Return the columns of single negatives and that of a list of them."""
    single: tuple[str, ...] = ()
    several: str | None = None
    if "negative" in columns or "negatives" in columns:
        if "negative" in columns:
            single = (_mapped(record, "negative", columns["negative"]),)
        if "negatives" in columns:
            several = _mapped(record, "negatives", columns["negatives"])
        return single, several
    free = [name for name in record.fields if name not in columns.values()]
    numbered = [(int(match[1]), name) for name in free if (match := _NUMBERED.fullmatch(name.strip()))]
    first = recognised(record, "negative", NAMES["negative"], columns.values())
    single = (*([first] if first else []), *(name for _, name in sorted(numbered)))
    several = recognised(record, "negatives", NAMES["negatives"], columns.values())
    if single and several:
        raise record.error(
            f"the columns {_listed([*single, several])} could each be the negatives.",
            f"Say which: columns={{'negatives': '{several}'}} (--set columns.negatives={several}).",
        )
    return single, several


def find_columns(record: Record, columns: Mapping[str, str]) -> Columns:
    """Return which columns of ``record`` are what; all others are left alone.

    Args:
        record: A record of the file.
        columns: Our words (query, positive, negative, negatives) to the file's columns, before any recognised name.

    Raises:
        DataError: If the query or the positive has no column, a mapped column is not there, or two columns
            could be the same thing.
    """
    found = {
        word: _mapped(record, word, columns[word])
        if word in columns
        else recognised(record, word, NAMES[word], columns.values())
        for word in ("query", "positive")
    }
    query, positive = found["query"], found["positive"]
    if query is None or positive is None:
        raise _missing(record, "query" if query is None else "positive")
    single, several = _negatives(record, columns)
    return Columns(query, positive, single, several)
