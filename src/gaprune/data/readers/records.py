"""From records to triplets, with a check of every text."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from gaprune.data.readers.columns import Columns, find_columns, is_triplet
from gaprune.data.triplets import Triplet
from gaprune.errors import DataError, EmptyTextError
from gaprune.util.json_lines import Record
from gaprune.util.progress import say

_NAMED = 10
"""Records that an error names, of those that cannot be used."""

_LIST = re.compile(r"\s*\[\s*(?:['\"]|\]\s*$)")
"""The beginning of a list of texts, not that of a text such as ``[1] Introduction``."""


def parse_records(
    records: Iterable[Record],
    columns: Mapping[str, str] | None,
    *,
    require_negatives: bool,
    option: str | None = "columns",
    skip_empty: bool | None = None,
) -> Iterator[Triplet]:
    """Yield the triplets of each record: one for every positive, all with the record's negatives.

    Args:
        records: The records.
        columns: Columns of the parts of a triplet that are mapped.
        require_negatives: Whether every record must have a negative.
        option: Name of the mapping ``columns`` in errors; ``None`` where there is no such option.
        skip_empty: Whether records that lack a text are left out, and their number said; ``None`` where there is no
            such option.

    Raises:
        DataError: If a record lacks a column, or a text is missing, empty or not a text. All such records are named.
    """
    known: dict[tuple[str, ...], Columns] = {}
    faults: list[DataError] = []
    try:
        for each in records:
            record = _as_triplets(each) if "set" in each.fields and not columns else each
            names = tuple(record.fields)
            if names not in known:
                known[names] = find_columns(record, columns or {}, option)
            try:
                yield from _triplets(record, known[names], require_negatives=require_negatives)
            except DataError as error:
                faults.append(error)
    except DataError as error:  # nothing can be read from here on
        faults.append(error)
    _judge(faults, skip_empty)


def _triplets(record: Record, found: Columns, *, require_negatives: bool) -> list[Triplet]:
    query, positives = record.text(found.query), _texts(record, found.positive, found.lists)
    negatives = tuple(text for column in found.negatives for text in _texts(record, column, found.lists))
    if not positives:
        raise record.empty(found.positive)
    if require_negatives and not negatives:
        raise record.error(
            "has no negative, and explicit negatives are required here.",
            "Add a column negative, mine negatives first, or use in-batch negatives.",
        )
    return [Triplet(query, positive, negatives, record.source) for positive in positives]


def _judge(faults: Sequence[DataError], skip_empty: bool | None) -> None:
    """Say which records were left out, if that was asked for; refuse all others in one error."""
    empty = [each for each in faults if isinstance(each, EmptyTextError)]
    if skip_empty and empty:
        say(f"{_records(len(empty))} left out because a text is missing or empty:{_listed(empty)}")
    refused = [each for each in faults if not (skip_empty and isinstance(each, EmptyTextError))]
    if not refused:
        return
    remedy = " ".join(dict.fromkeys(each.remedy for each in refused))
    if empty and skip_empty is False:
        remedy += " To leave records without a text out: --set skip_empty=true (skip_empty=True in Python)."
    if len(refused) == 1 and remedy == refused[0].remedy:
        raise refused[0]
    listed = f"{_records(len(refused))} cannot be used:{_listed(refused)}"
    raise DataError(refused[0].problem if len(refused) == 1 else listed, remedy)


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"


def _listed(faults: Sequence[DataError]) -> str:
    """Return the first faults, each in a line, and the number of the others."""
    more = len(faults) - _NAMED
    lines = [*(each.problem for each in faults[:_NAMED]), *([f"and {more:,} more"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in lines)


def _as_triplets(record: Record) -> Record:
    """Return a set of texts of the same meaning as a query and its positives."""
    texts = record.fields["set"]
    others = {name: value for name, value in record.fields.items() if name != "set"}
    if not isinstance(texts, list) or is_triplet(Record(record.file, record.number, others)):
        return record
    if len(texts) < 2:
        raise record.error(f"the set holds {len(texts)} texts.", "Give every set two texts or more.")
    return replace(record, fields={"query": texts[0], "positives": texts[1:]})


def _texts(record: Record, column: str, lists: frozenset[str]) -> tuple[str, ...]:
    """Return the texts in a column: none for null, a text, or a list of texts."""
    value = record.fields[column]
    if value is None:
        return ()
    if isinstance(value, str) and column in lists and _LIST.match(value):
        value = _written_list(record, column, value)
    if not isinstance(value, list):
        return (record.check_text(column, value),)
    return tuple(record.check_text(f"{column}[{number}]", item) for number, item in enumerate(value))


def _written_list(record: Record, column: str, text: str) -> list[object]:
    """Return a list that a cell holds as JSON, or as Python (and pandas) writes it."""
    with suppress(json.JSONDecodeError, RecursionError):
        found = json.loads(text)
        if isinstance(found, list):
            return found
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ast.literal_eval(text)
        if isinstance(found, list) and repr(found) == text:  # numpy's ['a' 'b'] would be one text
            return found
    raise record.error(
        f"the column {column!r} holds {text!r:.60}, which is not a list of texts.",
        'Write a JSON list: ["first", "second"], or [] for none. (pandas: apply json.dumps to the column first.)',
    )
