"""Reading JSON and JSON lines: every mistake is named by file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gaprune.errors import DataError, EmptyTextError, suggest
from gaprune.util.text_files import read_lines

_CORRECT = "Correct the JSON there; every quote, comma and bracket counts."

_KINDS = {str: "a text", bool: "true or false", list: "a list", type(None): "null"}
_LARGEST = 1e300
"""Numbers from here on, infinity and NaN cannot be scores."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file: its cells by column name, and its place.

    Args:
        file: The file, or the hub id.
        number: Line in a text file, or position (from 1) in a file without lines.
        fields: The cells by column name.
        is_line: Whether ``number`` is a line of the file.
        row: The row that a spreadsheet shows; ``None`` for what is no table.
    """

    file: Path | str
    number: int
    fields: Mapping[str, Any]
    is_line: bool = True
    row: int | None = None

    @property
    def source(self) -> str:
        """``file:line``, or ``file:record N`` for a file without lines."""
        return f"{self.file}:{self.number}" if self.is_line else f"{self.file}:record {self.number}"

    def error(self, problem: str, remedy: str, kind: type[DataError] = DataError) -> DataError:
        """Return an error that starts with the place of this record."""
        if self.is_line:
            return kind(problem, remedy, source=self.file, line=self.number, row=self.row)
        return kind(problem, remedy, source=self.source)

    def empty(self, column: str) -> DataError:
        """Return the error for a column in which this record has no text."""
        return self.error(f"the cell in column {column!r} is empty.", "Fill it, or remove the record.", EmptyTextError)

    def field(self, column: str) -> Any:
        """Return the value of ``column``, which must be present."""
        return self.require(column).fields[column]

    def require(self, *columns: str) -> Self:
        """Return this record, which must have the ``columns``.

        Raises:
            DataError: If it has not; all that are missing are named.
        """
        missing = [column for column in columns if column not in self.fields]
        if missing:
            names = ", ".join(map(repr, missing))
            one = "the column {} is missing" if len(missing) == 1 else "the columns {} are missing"
            near = "".join(suggest(column, self.fields) for column in missing)
            raise self.error(
                f"{one.format(names)}; the columns are {self.columns}.{near}",
                f"Give every record the column{'s' * (len(missing) > 1)} {names}.",
            )
        return self

    @property
    def columns(self) -> str:
        """The names of the columns for a message."""
        return ", ".join(f"{name!r:.60}" for name in self.fields) or "none"

    def text(self, column: str) -> str:
        """Return the value of ``column``, which must be a text that is not empty."""
        return self.check_text(column, self.field(column))

    def check_text(self, column: str, value: object, *, may_be_empty: bool = False) -> str:
        """Return ``value`` of ``column`` if it is a valid text.

        Raises:
            DataError: If it is not a text, is empty although it may not be, or holds half of a surrogate pair.
        """
        if value is None:
            raise self.empty(column)
        if not isinstance(value, str):
            many = " Write one record for each text." if isinstance(value, list) else ""
            raise self.error(f"the column {column!r} holds {value!r:.60}, not a text.", f"Put one text there.{many}")
        if not (may_be_empty or value.strip()):
            problem, remedy = f"the column {column!r} holds an empty text.", "Fill it, or remove the record."
            raise self.error(problem, remedy, EmptyTextError)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = f"half of a surrogate pair ({value[error.start]!a})"
                raise self.error(
                    f"the column {column!r} holds {half}.", "Remove it; the text was cut or decoded wrongly before."
                ) from error
        return value

    def identifier(self, column: str) -> str:
        """Return the identifier in ``column``; an integer is converted to a text."""
        value = self.field(column)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.check_text(column, value)

    def finite_number(self, column: str) -> float:
        """Return the value of ``column``, which must be a finite number."""
        value = self.field(column)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise self.error(
                f"the column {column!r} holds {value!r:.60}, not a finite number.", "Write it without quotes."
            )
        return float(value)


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield the object on every line of a JSONL file; blank lines are skipped.

    Raises:
        DataError: If a line is not a JSON object.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield record_of(decode_json(line.rstrip(), path, number), path, number)


def record_of(value: object, path: Path, number: int, *, is_line: bool = True) -> Record:
    """Return a decoded JSON object as a record.

    Raises:
        DataError: If ``value`` is not an object.
    """
    if isinstance(value, dict):
        return Record(path, number, value, is_line=is_line)
    raise Record(path, number, {}, is_line=is_line).error(
        f"is {_KINDS.get(type(value), 'a number')}, not an object.",
        'Write every record as an object: {"name": "text", ...}.',
    )


def decode_json(text: str, path: Path, first_line: int) -> Any:
    """Return the value of a JSON text that begins on ``first_line`` of ``path``.

    Raises:
        DataError: If the text is not valid JSON, or an object has a key twice.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON: {error.msg} (column {error.colno})."
        raise DataError(problem, _CORRECT, source=path, line=first_line + error.lineno - 1) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not usable JSON: {error}.", _CORRECT, source=path, line=first_line) from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; refuse a repeated key, of which JSON would keep only the last value."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)
