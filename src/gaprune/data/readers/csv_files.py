"""Reading CSV and TSV as programs and spreadsheets write them, with the line on which every row begins."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

from gaprune.errors import DataError
from gaprune.util.json_lines import Record
from gaprune.util.progress import say
from gaprune.util.text_files import format_of, read_text

_LONGEST_CELL = 2**31 - 1
"""Largest limit on the characters of a cell that the csv module accepts on every platform; its own is 131,072."""

_LONGEST_HEADER = 2**16

_SEPARATORS = ";\t|,"


def read_csv(path: Path) -> list[Record]:
    """Return the rows of a file whose first row names the columns; empty cells are ``None``, empty rows left out.

    ``.tsv`` is split at tabs and others at commas, unless the first row is a single cell then and another separator
    (or a first line such as ``sep=;``) splits it. A column without a name, such as the index that pandas writes, is
    ignored; columns of the same name give a list.

    Raises:
        DataError: If a row has too few or too many cells, or a quote is left open.
    """
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        rows = list(_rows(path))
    finally:
        csv.field_size_limit(limit)
    header = rows[0][2] if rows else []
    return [Record(path, line, _fields(header, cells, path, line, row), row=row) for row, line, cells in rows[1:]]


def _rows(path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the number of each row as a spreadsheet shows it, the line where it begins, and its cells."""
    text, start = read_text(path), 1
    usual = "\t" if format_of(path) == ".tsv" else ","
    named, separator = _separator(text, usual)
    if separator != usual:
        say(f"{path}: the cells are separated by {separator!r}.")
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for number, cells in enumerate(reader):
            if any(cells) and (number or not named):
                yield number + 1 - named, start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"cannot be read as a row of cells: {error}.",
            'Close every quote; inside a quoted cell write a quote as two ("").',
            source=path,
            line=start,
        ) from error


def _separator(text: str, usual: str) -> tuple[bool, str]:
    """Return whether the first line only names the separator, as spreadsheets write it, and the separator."""
    first = text.partition("\n")[0].strip().strip('"')
    if len(first) == len("sep=;") and first.casefold().startswith("sep="):
        return True, first[-1]
    for separator in (usual, *_SEPARATORS):
        with suppress(csv.Error, StopIteration):
            header = csv.reader(StringIO(text[:_LONGEST_HEADER], newline=""), delimiter=separator, strict=True)
            if len(next(header)) > 1:
                return False, separator
    return False, usual


def _fields(
    header: Sequence[str], cells: Sequence[str], path: Path, line: int, row: int
) -> dict[str, str | list[str | None] | None]:
    if len(cells) < len(header) or any(cells[len(header) :]):
        raise DataError(
            f"has {len(cells)} cells; the first row names {len(header)} columns.",
            "Give every row one cell per column; put texts that contain the separator in double quotes.",
            source=path,
            line=line,
            row=row,
        )
    columns: dict[str, list[str | None]] = {}
    for name, cell in zip(header, cells, strict=False):
        if name.strip():
            columns.setdefault(name, []).append(cell or None)
    return {name: found[0] if len(found) == 1 else found for name, found in columns.items()}
