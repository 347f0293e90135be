"""From records to triplets: every text checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gaprune.data.columns import Columns, check_mapping, find_columns
from gaprune.data.triplets import Triplet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gaprune.data.records import Record

__all__ = ["parse_records"]


def _list(record: Record, column: str, value: object) -> tuple[str, ...]:
    """Return a list of texts, given as such or (in a CSV cell) as JSON."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    if not isinstance(value, list):
        raise record.error(
            f"the column {column!r} holds no list of texts.",
            'Put a JSON list there: ["first", "second"], or [] for none; one negative belongs in "negative".',
        )
    return tuple(record.text(f"{column}[{number}]", item) for number, item in enumerate(value))


def _single(record: Record, column: str) -> tuple[str, ...]:
    """Return the negatives of one column: none for null, a text, or a list where the format has lists."""
    value = record.fields[column]
    if value is None:
        return ()
    if isinstance(value, list):
        return _list(record, column, value)
    if value == "":
        raise record.error(
            f"the column {column!r} is empty.",
            'Fill it, or where the number of negatives differs put them as a JSON list in one column "negatives".',
        )
    return (record.text(column, value),)


def _triplet(record: Record, columns: Columns) -> Triplet:
    negatives = [text for column in columns.negatives for text in _single(record, column)]
    if columns.negatives_list is not None:
        negatives += _list(record, columns.negatives_list, record.fields[columns.negatives_list])
    return Triplet(
        query=record.text(columns.query, record.fields[columns.query]),
        positive=record.text(columns.positive, record.fields[columns.positive]),
        negatives=tuple(negatives),
        source=record.source,
    )


def parse_records(
    records: Iterable[Record], columns: Mapping[str, str] | None, *, require_negatives: bool
) -> Iterator[Triplet]:
    """Yield one triplet a record.

    Args:
        records: Records of one or more files.
        columns: Our words to the file's column names.
        require_negatives: Whether every triplet must have a negative of its own.

    Raises:
        ConfigError: If ``columns`` names something no triplet has.
        DataError: With the place, if a record has not the columns, or a text is missing, empty or no text.
    """
    check_mapping(columns)
    known: dict[tuple[str, ...], Columns] = {}
    for record in records:
        names = tuple(record.fields)
        if names not in known:
            known[names] = find_columns(record, columns or {})
        triplet = _triplet(record, known[names])
        if require_negatives and not triplet.negatives:
            raise record.error(
                "has no negative, and explicit negatives are required here.",
                "Add a column negative, mine negatives first, or let the loss use in-batch negatives.",
            )
        yield triplet
