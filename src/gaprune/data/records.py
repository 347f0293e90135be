"""Records: what a file holds before anybody knows which of its columns is the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Record", "read_text"]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file: its cells by column name, and where it stands.

    Args:
        file: The file, or the hub id, it came from.
        number: Line in a text file, or position (from 1) where a file has no lines of its own.
        fields: The cells by column name.
        is_line: Whether ``number`` is a line of the file.
    """

    file: str
    number: int
    fields: Mapping[str, object]
    is_line: bool = True

    @property
    def source(self) -> str:
        """``file:line``, or ``file:record N`` where the file has no lines."""
        return f"{self.file}:{self.number}" if self.is_line else f"{self.file}:record {self.number}"

    def error(self, problem: str, remedy: str) -> DataError:
        """Return an error that names this record."""
        if self.is_line:
            return DataError(problem, remedy, source=self.file, line=self.number)
        return DataError(problem, remedy, source=self.source)

    def text(self, column: str, value: object, *, may_be_empty: bool = False) -> str:
        """Return ``value`` of a column if it is a text with something in it.

        Raises:
            DataError: If it is none, or empty where it must not be.
        """
        if value is None:
            raise self.error(f"the column {column!r} is empty (null).", "Fill it, or remove the record.")
        if not isinstance(value, str):
            many = " Write one record for each." if isinstance(value, list) else ""
            raise self.error(f"the column {column!r} holds {value!r:.60}, not a text.", f"Put one text there.{many}")
        if not (may_be_empty or value.strip()):
            raise self.error(f"the column {column!r} holds no text.", "Fill it, or remove the record.")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = f"half a surrogate pair ({value[error.start]!a})"
                raise self.error(
                    f"the column {column!r} holds {half}, which is no text.",
                    "Remove it; the text was cut or decoded wrongly before.",
                ) from error
        return value


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte order mark, line ends as they are.

    Raises:
        DataError: If the file cannot be read or is not UTF-8; the line is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", "Check the file's permissions.", source=path) from error
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 (byte 0x{content[error.start]:02x}).",
            "Save the file again with the encoding UTF-8.",
            source=path,
            line=content.count(b"\n", 0, error.start) + 1,
        ) from error
