"""Reading CSV and TSV with the line on which every row begins."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

from gaprune.data.records import Record, read_text
from gaprune.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_csv"]

_LONGEST_CELL = 2**31 - 1
"""The most characters the csv module can be told to accept on every platform; its own limit is 131,072."""


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line where each row begins, and its cells; blank lines are skipped."""
    reader = csv.reader(StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"cannot be read as a row of cells: {error}.",
            'Close every quote; inside a quoted cell write a quote as two ("").',
            source=path,
            line=start,
        ) from error


def _checked_header(header: list[str], path: Path, line: int) -> list[str]:
    other = next((mark for mark in ";\t|," if mark in header[0]), None) if len(header) == 1 else None
    if other is not None:
        raise DataError(
            f"the first row is one cell, {header[0]!r:.60}: its columns are parted by {other!r}.",
            "Save it with commas between the cells, or as .tsv with tabs.",
            source=path,
            line=line,
        )
    for name in header:
        if not name.strip():
            raise DataError("a column has no name.", "Name every column in the first row.", source=path, line=line)
        if header.count(name) > 1:
            remedy = "Give every column its own name: negative_1, negative_2, ..."
            raise DataError(f"the column {name!r} stands there twice.", remedy, source=path, line=line)
    return header


def read_csv(path: Path) -> list[Record]:
    """Return the rows of a file whose first row names the columns; ``.tsv`` is split at tabs, others at commas.

    Raises:
        DataError: With the line, if a row has too few or too many cells or a quote is left open.
    """
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(_rows(path, "\t" if path.suffix.lower() == ".tsv" else ","))
    finally:
        csv.field_size_limit(limit)
    if not rows:
        return []
    header = _checked_header(rows[0][1], path, rows[0][0])
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"has {len(cells)} cells, the first row names {len(header)} columns.",
                "Give every row one cell a column; put a text that holds the separator in double quotes.",
                source=path,
                line=line,
            )
    return [Record(str(path), line, dict(zip(header, cells, strict=True))) for line, cells in rows[1:]]
