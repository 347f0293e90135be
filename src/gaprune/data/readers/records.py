"""From records to triplets, with a check of every text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gaprune.data.readers.columns import Columns, find_columns
from gaprune.data.triplets import Triplet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gaprune.util.json_lines import Record

__all__ = ["parse_records"]


def parse_records(
    records: Iterable[Record], columns: Mapping[str, str] | None, *, require_negatives: bool
) -> Iterator[Triplet]:
    """Yield one triplet for each record.

    Raises:
        DataError: If a record lacks a column, or a text is missing, empty or not a text.
    """
    known: dict[tuple[str, ...], Columns] = {}
    for record in records:
        names = tuple(record.fields)
        if names not in known:
            known[names] = find_columns(record, columns or {})
        triplet = _triplet(record, known[names])
        if require_negatives and not triplet.negatives:
            raise record.error(
                "has no negative, and explicit negatives are required here.",
                "Add a column negative, mine negatives first, or use in-batch negatives.",
            )
        yield triplet


def _triplet(record: Record, columns: Columns) -> Triplet:
    negatives = [text for column in columns.negatives for text in _single(record, column)]
    if columns.negatives_list is not None:
        negatives += _several(record, columns.negatives_list)
    return Triplet(record.text(columns.query), record.text(columns.positive), tuple(negatives), record.source)


def _single(record: Record, column: str) -> tuple[str, ...]:
    """Return the negatives in a column for one negative: none for null, a text, or a list of texts."""
    value = record.fields[column]
    if value is None:
        return ()
    if isinstance(value, list):
        return _several(record, column)
    if value == "":
        raise record.error(
            f"the column {column!r} is empty.",
            'Fill it. If the number of negatives varies, write them as a JSON list in one column "negatives".',
        )
    return (record.check_text(column, value),)


def _several(record: Record, column: str) -> tuple[str, ...]:
    """Return a list of texts, which a CSV cell holds as JSON."""
    value = record.fields[column]
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    if not isinstance(value, list):
        raise record.error(
            f"the column {column!r} does not hold a list of texts.",
            'Write a JSON list: ["first", "second"], or [] for none. A single negative belongs in "negative".',
        )
    return tuple(record.check_text(f"{column}[{number}]", item) for number, item in enumerate(value))
