"""Checked reading of the files that tasks are made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaprune.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Line", "fingerprint", "read_json_lines", "read_text_lines"]

_LARGEST = 1e300
"""Numbers from here on, infinity and NaN are none that a score can be."""


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file, which knows where it stands.

    Args:
        path: The file.
        number: The line in it, from 1.
        fields: The object's fields.
    """

    path: Path
    number: int
    fields: dict[str, Any]

    def error(self, problem: str, remedy: str) -> DataError:
        """Return an error that starts with this line's place."""
        return DataError(problem, remedy, source=self.path, line=self.number)

    def field(self, name: str) -> Any:
        """Return the field ``name``, which must be there."""
        if name not in self.fields:
            has = ", ".join(map(repr, self.fields)) or "none"
            raise self.error(
                f"The field {name!r} is missing; the line has {has}.{suggest(name, self.fields)}",
                f"Give every line of {self.path.name} the field {name!r}.",
            )
        return self.fields[name]

    def text(self, name: str) -> str:
        """Return the field ``name``, which must be a text that is not empty."""
        return self.check_text(name, self.field(name))

    def check_text(self, name: str, value: object) -> str:
        """Return ``value`` of the field ``name`` if it is a text that is not empty."""
        if not isinstance(value, str):
            raise self.error(f"The field {name!r} is {value!r}, not a text.", "Write it as a string in quotes.")
        if not value.strip():
            raise self.error(f"The field {name!r} is an empty text.", "Fill it, or remove the line.")
        if value.encode("utf-8", "ignore").decode("utf-8") != value:
            raise self.error(rf"The field {name!r} holds half of a \uD8..\uDC.. pair.", "Write both halves, or none.")
        return value

    def identifier(self, name: str) -> str:
        """Return the id in field ``name``; a whole number stands for its digits."""
        value = self.field(name)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.check_text(name, value)

    def finite_number(self, name: str) -> float:
        """Return the field ``name``, which must be a finite number."""
        value = self.field(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise self.error(f"The field {name!r} is {value!r}, not a number.", "Write it as a number without quotes.")
        return float(value)


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of ``path`` that is not blank.

    Raises:
        DataError: If the file cannot be opened, or a line is not UTF-8.
    """
    try:
        with path.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError("The line is not UTF-8.", "Save the file as UTF-8.", source=path, line=number) from error
    except OSError as error:
        raise DataError(
            f"The file cannot be read: {error.strerror}.", "Check its name and permissions.", source=path
        ) from error


def read_json_lines(path: Path) -> Iterator[Line]:
    """Yield the JSON objects of ``path``, one a line; blank lines are skipped.

    Raises:
        DataError: If a line is not a JSON object, or the file holds none.
    """
    empty = True
    for number, text in read_text_lines(path):
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise DataError(
                f"The line is not JSON: {error}.", "Write one JSON object a line.", source=path, line=number
            ) from error
        if not isinstance(fields, dict):
            raise DataError(
                f"The line is a JSON {type(fields).__name__}, not an object.",
                'Write one JSON object a line, like {"text": "..."}.',
                source=path,
                line=number,
            )
        empty = False
        yield Line(path, number, fields)
    if empty:
        raise DataError("The file is empty.", "Write one JSON object a line, or remove the task.", source=path)


def fingerprint(*paths: Path) -> str:
    """Return a SHA-256 (hexadecimal) of the contents of ``paths`` in this order; their names do not count."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
