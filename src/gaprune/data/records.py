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
