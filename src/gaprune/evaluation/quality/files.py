"""Reading the files of tasks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gaprune.errors import DataError
from gaprune.util.json_lines import Record, read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def require_files(folder: Path, kind: str, *names: str) -> list[Path]:
    """Return the files of a task.

    Raises:
        DataError: If one is missing.
    """
    files = [folder / name for name in names]
    for name, file in zip(names, files, strict=True):
        if not file.is_file():
            raise DataError(
                f"the file {name}, which a {kind} task needs, is missing.",
                f"Give the folder {', '.join(names)}.",
                source=folder,
            )
    return files


def read_records(path: Path) -> Iterator[Record]:
    """Yield the JSON objects of ``path``; blank lines are skipped.

    Raises:
        DataError: If a line is not a JSON object, or the file holds none.
    """
    empty = True
    for record in read_json_lines(path):
        empty = False
        yield record
    if empty:
        raise DataError("the file is empty.", "Write one JSON object per line, or remove the task.", source=path)


def fingerprint(*paths: Path) -> str:
    """Return a SHA-256 (hexadecimal) of the contents of ``paths`` in this order; their names do not count."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
