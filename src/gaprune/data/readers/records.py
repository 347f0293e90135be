"""From records to triplets, with a check of every text."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from gaprune.data.readers.columns import Columns, find_columns, is_triplet
from gaprune.data.triplets import Triplet
from gaprune.util.json_lines import Record

_LIST = re.compile(r"\s*\[\s*(?:['\"]|\]\s*$)")
"""The beginning of a list of texts, not that of a text such as ``[1] Introduction``."""


def parse_records(
    records: Iterable[Record],
    columns: Mapping[str, str] | None,
    *,
    require_negatives: bool,
    option: str | None = "columns",
) -> Iterator[Triplet]:
    """Yield the triplets of each record: one for every positive, all with the record's negatives.

    ``option`` is the name of the mapping ``columns`` in errors, ``None`` where there is no such option.

    Raises:
        DataError: If a record lacks a column, or a text is missing, empty or not a text.
    """
    known: dict[tuple[str, ...], Columns] = {}
    for each in records:
        record = _as_triplets(each) if "set" in each.fields and not columns else each
        names = tuple(record.fields)
        if names not in known:
            known[names] = find_columns(record, columns or {}, option)
        found = known[names]
        query, positives = record.text(found.query), _texts(record, found.positive, found.lists)
        negatives = tuple(text for column in found.negatives for text in _texts(record, column, found.lists))
        if not positives:
            raise record.error(f"the column {found.positive!r} is empty (null).", "Fill it, or remove the record.")
        if require_negatives and not negatives:
            raise record.error(
                "has no negative, and explicit negatives are required here.",
                "Add a column negative, mine negatives first, or use in-batch negatives.",
            )
        for positive in positives:
            yield Triplet(query, positive, negatives, record.source)


def _as_triplets(record: Record) -> Record:
    """Return a set of texts of the same meaning as a query and its positives."""
    texts = record.fields["set"]
    others = {name: value for name, value in record.fields.items() if name != "set"}
    if not isinstance(texts, list) or is_triplet(Record(record.file, record.number, others)):
        return record
    if len(texts) < 2:
        raise record.error(f"the set holds {len(texts)} texts.", "Give every set two texts or more.")
    return Record(record.file, record.number, {"query": texts[0], "positives": texts[1:]}, is_line=record.is_line)


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
