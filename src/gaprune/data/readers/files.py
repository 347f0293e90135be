"""Finding the files to read at a path that a user named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gaprune.errors import DataError, suggest
from gaprune.util.text_files import COMPRESSED, format_of

_ABOUT = {"dataset_infos.json", "dataset_info.json"}
"""Files about the data set that the hub keeps beside its data."""


_DOCUMENTS = {".htm", ".html", ".markdown", ".md", ".pdf", ".txt"}
_MADE = " Plain documents become triplets by `gaprune data from-texts`; `gaprune shrink` takes them as they are."


def files_in(folder: Path, endings: Collection[str], *, recursive: bool = False) -> list[Path]:
    """Return the files of these formats in a folder, sorted by name; hidden ones are ignored."""
    return [
        entry
        for entry in sorted(folder.rglob("*") if recursive else folder.iterdir())
        if format_of(entry) in endings
        and entry.name not in _ABOUT
        and not any(part.startswith(".") for part in entry.relative_to(folder).parts)
        and entry.is_file()
    ]


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
        if format_of(path) not in endings:
            ending = f"the ending {path.suffix!r}" if path.suffix else "a file without an ending"
            remedy = f"Use one of {formats}; compressed, with {' or '.join(COMPRESSED)} after it."
            remedy += _MADE if kind == "triplet" and path.suffix.lower() in _DOCUMENTS else ""
            raise DataError(f"{ending} is not a {kind} format.", remedy, source=path)
        return [path]
    files = files_in(path, endings, recursive=recursive)
    if not files:
        below = sorted({entry.parent.name for entry in path.glob("*/*") if format_of(entry) in endings})
        hint = f", or name one of the folders in it that have some: {', '.join(below)}" if below else ""
        documents = kind == "triplet" and any(entry.suffix.lower() in _DOCUMENTS for entry in path.rglob("*"))
        remedy = f"Put files ({formats}) in it{hint}.{_MADE if documents else ''}"
        raise DataError(f"the folder holds no {kind} file.", remedy, source=path)
    return files


def missing(path: Path, formats: str) -> DataError:
    """Return the error for a path that does not exist."""
    if not path.parent.is_dir():
        return DataError("does not exist.", f"Its folder {path.parent} does not exist either.", source=path)
    near = suggest(path.name, (entry.name for entry in path.parent.iterdir()))
    return DataError(f"does not exist.{near}", f"Give a file ({formats}) or a folder.", source=path)
