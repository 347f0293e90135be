"""Reading triplets from files, folders and the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.data.columns import check_mapping
from gaprune.data.csv_files import read_csv
from gaprune.data.hub import read_hub
from gaprune.data.json_files import read_json, read_jsonl
from gaprune.data.parquet_files import read_parquet
from gaprune.data.parse import parse_records
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gaprune.data.records import Record

__all__ = ["check_source", "read_records", "read_triplets"]

_READERS: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
_FORMATS = ", ".join(_READERS)


def _looks_like_path(source: str | Path) -> bool:
    """Tell a path that should exist from a hub id (``name`` or ``owner/name``)."""
    text = str(source)
    return (
        isinstance(source, Path)
        or Path(text).suffix.lower() in _READERS
        or text.startswith((".", "/", "~"))
        or "\\" in text
        or text.count("/") > 1
        or ("/" in text and Path(text).parent.is_dir())
    )


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return DataError("does not exist.", f"Its folder {folder} does not exist either.", source=path)
    near = suggest(path.name, (entry.name for entry in folder.iterdir()))
    return DataError(f"does not exist.{near}", f"Give a file ({_FORMATS}), a folder or a hub id.", source=path)


def _folder_records(folder: Path) -> Iterator[Record]:
    files = sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in _READERS and not entry.name.startswith(".")
    )
    if not files:
        raise DataError("the folder holds no data file.", f"Put files ({_FORMATS}) directly in it.", source=folder)
    for file in files:
        yield from _READERS[file.suffix.lower()](file)


def _file_records(file: Path) -> Iterable[Record]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        ending = f"the ending {file.suffix!r}" if file.suffix else "a file without an ending"
        raise DataError(f"{ending} is no format read here.", f"Use one of {_FORMATS}.", source=file)
    return reader(file)


def read_records(source: str | Path) -> Iterable[Record]:
    """Return the records of a local file, or of all files directly in a folder.

    Raises:
        DataError: If there is no such file, or its format is none that is read.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise _missing(path)
    return _folder_records(path) if path.is_dir() else _file_records(path)


def read_triplets(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    require_negatives: bool = False,
) -> Triplets:
    """Read triplets from a file, a folder of files or a data set on the hub.

    Without ``columns`` these names are recognised, in any case of letters: ``query``, ``anchor`` or ``question``;
    ``positive``, ``pos``, ``passage`` or ``answer``; ``negative``, ``neg`` or ``negative_1`` to ``negative_n`` (a
    text each; null for none) or ``negatives`` (a list of texts; in CSV a JSON list in the cell). Two columns that
    could be the same thing are refused; all other columns are ignored.

    Args:
        source: A file (.json, .jsonl, .csv, .tsv, .parquet), a folder (all such files directly in it, sorted by
            name), or a hub id.
        columns: Maps our words (query, positive, negative, negatives) to the file's column names; a word that is
            mapped is not looked for under other names.
        subset: Configuration of a data set on the hub.
        split: Split of a data set on the hub, ``train`` by default.
        require_negatives: Whether every triplet must have a negative of its own.

    Returns:
        The triplets in the order of the files; the ``source`` of each is ``file:line`` (``file:record N`` for .json,
        .parquet and the hub), their name is that of the file, folder or data set.

    Raises:
        ConfigError: If an option makes no sense for this source.
        DataError: If there is no such source, or a record in it is unusable; the file and line are named.
    """
    check_mapping(columns)
    path = Path(source).expanduser()
    if path.exists():
        if subset is not None or split is not None:
            option = "split" if subset is None else "subset"
            raise ConfigError(
                f"{option}: {path} is a local file or folder.", f"Leave {option} out; it is for the hub."
            )
        name = path.resolve().name
        records = read_records(path)
    elif _looks_like_path(source):
        raise _missing(path)
    else:
        name = str(source)
        records = read_hub(name, subset=subset, split=split)
    items = list(parse_records(records, columns, require_negatives=require_negatives))
    if not items:
        raise DataError("holds no triplet.", "Give a file with at least one triplet.", source=source)
    return Triplets(items, name)


def check_source(source: str | Path, *, columns: Mapping[str, str] | None = None) -> None:
    """Find the faults of data that are named and will not be used; hub ids are not looked up.

    Raises:
        DataError: If a local source is not there or unusable.
    """
    if Path(source).expanduser().exists() or _looks_like_path(source):
        read_triplets(source, columns=columns)
