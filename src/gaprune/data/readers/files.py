"""Finding the files to read at a path that a user named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["files_of", "missing"]


def files_of(source: str | Path, endings: Collection[str], *, kind: str, recursive: bool = False) -> list[Path]:
    """Return the file ``source``, or the files with one of ``endings`` in a folder, sorted by name.

    Raises:
        DataError: If there is no file, or the file has another ending.
    """
    path = Path(source).expanduser()
    formats = ", ".join(endings)
    if not path.exists():
        raise missing(path, formats)
    if path.is_file():
        if path.suffix.lower() not in endings:
            ending = f"the ending {path.suffix!r}" if path.suffix else "a file without an ending"
            raise DataError(f"{ending} is not a {kind} format.", f"Use one of {formats}.", source=path)
        return [path]
    files = [
        entry
        for entry in sorted(path.rglob("*") if recursive else path.iterdir())
        if entry.suffix.lower() in endings
        and not any(part.startswith(".") for part in entry.relative_to(path).parts)
        and entry.is_file()
    ]
    if not files:
        raise DataError(f"the folder holds no {kind} file.", f"Put files ({formats}) in it.", source=path)
    return files


def missing(path: Path, formats: str) -> DataError:
    """Return the error for a path that does not exist."""
    if not path.parent.is_dir():
        return DataError("does not exist.", f"Its folder {path.parent} does not exist either.", source=path)
    near = suggest(path.name, (entry.name for entry in path.parent.iterdir()))
    return DataError(f"does not exist.{near}", f"Give a file ({formats}) or a folder.", source=path)
