"""Finding the files to read at a path that a user named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from gaprune.errors import DataError, suggest
from gaprune.util.progress import say
from gaprune.util.text_files import COMPRESSED, format_of

_ABOUT = {"dataset_infos.json", "dataset_info.json"}
"""Files about the data set that the hub keeps beside its data."""


_DOCUMENTS = {".htm", ".html", ".markdown", ".md", ".pdf", ".txt"}
_SHEETS = {".ods", ".xls", ".xlsx"}
_SAVED = " Save the spreadsheet as CSV (UTF-8)."
_WRITTEN = {".doc", ".docx", ".odt", ".rtf"}
_SAVED_AS_TEXT = (
    " Save it as plain text (.txt) or web page (.html); documents are taken as they are by `gaprune shrink`."
)
MADE = (
    " Plain documents become triplets by `gaprune data from-texts`; "
    "`gaprune shrink DOCUMENTS` and `gaprune recover --texts` take them as they are."
)
"""What can be done with documents where triplets are read."""


def files_in(folder: Path, endings: Collection[str], *, recursive: bool = False) -> list[Path]:
    """Return the files of these formats in a folder, sorted by name; hidden ones are ignored."""
    entries = sorted(folder.rglob("*") if recursive else folder.iterdir())
    return [each for each in entries if format_of(each) in endings and _is_shown(each, folder)]


def say_unread(folder: Path, endings: Collection[str]) -> None:
    """Say in a line how many files in a folder are left out, because they are of other formats, by ending."""
    unread = Counter(
        entry.suffix.lower() or "without an ending"
        for entry in folder.rglob("*")
        if format_of(entry) not in endings and _is_shown(entry, folder)
    )
    if unread:
        kinds = ", ".join(f"{number:,} {ending}" for ending, number in sorted(unread.items()))
        say(f"{folder}: left out, because these formats cannot be read: {kinds}.")


def _is_shown(entry: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in entry.relative_to(folder).parts)
    return entry.name not in _ABOUT and not is_hidden and entry.is_file()


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
            remedy += MADE if kind == "triplet" and path.suffix.lower() in _DOCUMENTS else ""
            remedy += _SAVED if path.suffix.lower() in _SHEETS else ""
            remedy += _SAVED_AS_TEXT if path.suffix.lower() in _WRITTEN else ""
            raise DataError(f"{ending} is not a {kind} format.", remedy, source=path)
        return [path]
    files = files_in(path, endings, recursive=recursive)
    if not files:
        below = sorted({entry.parent.name for entry in path.glob("*/*") if format_of(entry) in endings})
        hint = f", or name one of the folders in it that have some: {', '.join(below)}" if below else ""
        documents = kind == "triplet" and any(entry.suffix.lower() in _DOCUMENTS for entry in path.rglob("*"))
        sheets = any(entry.suffix.lower() in _SHEETS for entry in path.iterdir())
        remedy = f"Put files ({formats}) in it{hint}.{MADE if documents else ''}{_SAVED if sheets else ''}"
        raise DataError(f"the folder holds no {kind} file.", remedy, source=path)
    return files


def missing(path: Path, formats: str) -> DataError:
    """Return the error for a path that does not exist."""
    if not path.parent.is_dir():
        return DataError("does not exist.", f"Its folder {path.parent} does not exist either.", source=path)
    near = suggest(path.name, (entry.name for entry in path.parent.iterdir()))
    return DataError(f"does not exist.{near}", f"Give a file ({formats}) or a folder.", source=path)
