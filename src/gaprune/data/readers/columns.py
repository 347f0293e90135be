"""Finding the columns of a file that hold the query, the positives and the negatives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from gaprune.data.readers.files import MADE
from gaprune.errors import ConfigError, suggest, together
from gaprune.util.json_lines import Record

NAMES = {
    "query": ("query", "anchor", "question", "sentence1"),
    "positive": ("positive", "pos", "positives", "passage", "answer", "sentence2"),
    "negative": ("negative", "neg"),
    "negatives": ("negatives",),
}
"""Column names that are recognised without a mapping; case is ignored."""

_NEAR = 0.75
"""Likeness of a column's name that is taken for a misspelt one; a word of another language is not."""

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


def check_mapping(columns: Mapping[str, str] | None, option: str = "columns") -> None:
    """Check the names that a mapping of columns uses; ``option`` is the mapping's name.

    Raises:
        ConfigError: If a name is not a part of a triplet.
    """
    unknown = [name for name in columns or () if name not in NAMES and not re.fullmatch(r"negative_\d+", name)]
    if unknown:
        raise ConfigError(
            f"{option}: {together(f'{name!r} is not a part of a triplet.{suggest(name, NAMES)}' for name in unknown)}",
            f"Map {', '.join(NAMES)}, or negative_1 to negative_n, to columns of the file.",
        )


def is_triplet(record: Record) -> bool:
    """Return whether a column of ``record`` is named like a part of a triplet."""
    names = {name for part in NAMES.values() for name in part} | {"set"}
    return any(column.strip().lower() in names or _NUMBERED.fullmatch(column.strip()) for column in record.fields)


def recognised(record: Record, names: Collection[str], mapped: Collection[str] = ()) -> list[str]:
    """Return the columns named like one of ``names`` and not in ``mapped``; several are ambiguous."""
    return [name for name in record.fields if name.strip().lower() in names and name not in mapped]


@dataclass(slots=True)
class Faults:
    """What is wrong with the columns of a record, to be said together.

    Args:
        record: The record.
        option: Option that maps the columns; ``None`` if nothing does.
        problems: What is wrong, each a sentence.
        columns: The column to map, or ``NAME``, by the part that has a fault.
    """

    record: Record
    option: str | None
    problems: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)

    def missing(self, part: str, names: Collection[str]) -> None:
        """Note that no column has one of the ``names`` of a part."""
        near = next((hint for name in names if (hint := suggest(name, self.record.fields, likeness=_NEAR))), "")
        self.problems.append(f"has no {part}: no column is named {' or '.join(map(repr, names))}.{near}")
        self.columns[part] = "NAME"

    def ambiguous(self, part: str, found: Collection[str]) -> None:
        """Note that each of the columns ``found`` could be a part."""
        self.problems.append(f"the columns {', '.join(map(repr, found))} could each be the {part}.")
        self.columns[part] = list(found)[-1 if part == "negatives" else 0]

    def unknown(self, part: str, column: str) -> None:
        """Note that a part is mapped to a column that is not there."""
        problem = f"there is no column {column!r}, which {self.option} maps to {part!r}."
        self.problems.append(problem + suggest(column, self.record.fields))
        self.columns[part] = "NAME"

    def refuse(self) -> None:
        """Raise one error for all faults, if there are any.

        Raises:
            DataError: It names the columns that are there, and the option that maps them.
        """
        if self.problems:
            problem = f"{together(self.problems)} The columns are {self.record.columns}."
            remedy = "Rename the columns."
            if self.option is not None:
                remedy = f"Rename the columns, or map them: {mapping(self.option, self.columns)}."
            header = " A table whose first row is data already needs a row of names before it."
            remedy += header * any(each.startswith("has") for each in self.problems)
            is_document = "text" in self.record.fields and {"query", "positive"} <= self.columns.keys()
            raise self.record.error(problem, remedy + MADE * is_document)


def find_columns(record: Record, columns: Mapping[str, str], option: str | None = "columns") -> Columns:
    """Return the columns of ``record`` that make triplets; all others are ignored.

    Args:
        record: The record.
        columns: Column of each part that is mapped.
        option: Name of that mapping; ``None`` where there is no such option.

    Raises:
        DataError: If the query or the positive has no column, mapped columns are missing or several columns match (all
            such faults in one error), or the record is a rated pair.
    """
    faults = Faults(record, option)
    query, positive = (_one(part, NAMES[part], columns, faults, needed=True) for part in ("query", "positive"))
    negatives = _negatives(record, columns, faults)
    faults.refuse()
    for name in {query, positive} - set(columns.values()):
        _refuse_ratings(record, query, positive, option, _RATED.get(name.strip().lower(), set()))
    lists = {name for name in (positive, *negatives) if name.strip().lower() in _LISTS}
    lists |= {columns[part] for part in columns if part == "negatives"}
    return Columns(query, positive, negatives, frozenset(lists))


def _one(part: str, names: Collection[str], columns: Mapping[str, str], faults: Faults, *, needed: bool) -> str:
    """Return the column of a part; an empty text if there is none."""
    if part in columns:
        if columns[part] not in faults.record.fields:
            faults.unknown(part, columns[part])
        return columns[part]
    found = recognised(faults.record, names, columns.values())
    if len(found) > 1:
        faults.ambiguous(part, found)
    elif not found and needed:
        faults.missing(part, names)
    return found[0] if found else ""


def _negatives(record: Record, columns: Mapping[str, str], faults: Faults) -> tuple[str, ...]:
    chosen = sorted((part for part in columns if part.startswith("negative")), key=_order)
    if chosen:
        return tuple(_one(part, (), columns, faults, needed=True) for part in chosen)
    mapped = columns.values()
    first = _one("negative", NAMES["negative"], columns, faults, needed=False)
    numbered = [name for name in record.fields if name not in mapped and _NUMBERED.fullmatch(name.strip())]
    single = (*([first] if first else []), *sorted(numbered, key=_order))
    several = _one("negatives", NAMES["negatives"], columns, faults, needed=False)
    if single and several:
        faults.ambiguous("negatives", [*single, several])
    return (*single, *([several] if several else []))


def _order(name: str) -> int:
    number = re.search(r"\d+$", name.strip())
    return int(number[0]) if number else 0


def _refuse_ratings(record: Record, query: str, positive: str, option: str | None, names: Collection[str]) -> None:
    ratings = [name for name in record.fields if name.strip().lower() in names]
    if ratings:
        pairs = mapping(option, {"query": query, "positive": positive}) if option else ""
        raise record.error(
            f"holds a pair of texts that {ratings[0]!r} rates, which need not match.",
            f"Write only the pairs that match, without {ratings[0]!r}"
            + (f"; or, if all match, map the columns: {pairs}." if pairs else "."),
        )


def mapping(option: str, columns: Mapping[str, str]) -> str:
    """Return how columns are mapped to parts, on the command line and in Python."""
    settings = " ".join(f"--set {option}.{part}={shlex.quote(column)}" for part, column in columns.items())
    return f"{settings} ({option}={dict(columns)} in Python)"
