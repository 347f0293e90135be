"""Reading CSV and TSV, with the line on which every row begins."""

from __future__ import annotations

import csv
from io import StringIO
from typing import TYPE_CHECKING

from gaprune.errors import DataError
from gaprune.util.json_lines import Record, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_csv"]

_LONGEST_CELL = 2**31 - 1
"""Largest limit on the characters of a cell that the csv module accepts on every platform; its own is 131,072."""


def read_csv(path: Path) -> list[Record]:
    """Return the rows of a file whose first row names the columns; ``.tsv`` is split at tabs, others at commas.

    Raises:
        DataError: If a row has too few or too many cells, a quote is left open, or the header cannot be used.
    """
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(_rows(path, "\t" if path.suffix.lower() == ".tsv" else ","))
    finally:
        csv.field_size_limit(limit)
    if not rows:
        return []
    line, header = rows[0]
    _check_header(header, path, line)
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"has {len(cells)} cells; the first row names {len(header)} columns.",
                "Give every row one cell per column; put texts that contain the separator in double quotes.",
                source=path,
                line=line,
            )
    return [Record(path, line, dict(zip(header, cells, strict=True))) for line, cells in rows[1:]]


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


def _check_header(header: list[str], path: Path, line: int) -> None:
    other = next((mark for mark in ";\t|," if mark in header[0]), None) if len(header) == 1 else None
    if other is not None:
        problem = f"the first row is one cell, {header[0]!r:.60}; its columns are separated by {other!r}."
        remedy = "Save the file with commas between the cells, or as .tsv with tabs."
    elif not all(name.strip() for name in header):
        problem, remedy = "a column has no name.", "Name every column in the first row."
    elif twice := [name for name in header if header.count(name) > 1]:
        problem = f"the column {twice[0]!r} appears twice."
        remedy = "Give every column a name of its own: negative_1, negative_2, ..."
    else:
        return
    raise DataError(problem, remedy, source=path, line=line)
