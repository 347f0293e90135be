"""Reading triplets from files, folders and the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.data.readers.columns import check_mapping
from gaprune.data.readers.csv_files import read_csv
from gaprune.data.readers.files import files_of, missing
from gaprune.data.readers.hub import read_hub
from gaprune.data.readers.json_files import read_json
from gaprune.data.readers.parquet_files import read_parquet
from gaprune.data.readers.records import parse_records
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.util.json_lines import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gaprune.util.json_lines import Record

__all__ = ["check_source", "read_records", "read_triplets"]

_READERS: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def read_triplets(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    require_negatives: bool = False,
) -> Triplets:
    """Read triplets from a file, a folder of files or a data set on the hub.

    Without ``columns`` these names are recognised in any case: ``query``, ``anchor`` or ``question``; ``positive``,
    ``pos``, ``passage`` or ``answer``; ``negative``, ``neg`` or ``negative_1`` to ``negative_n`` (one text each;
    null for none) or ``negatives`` (a list of texts; in CSV a JSON list in the cell). Two columns that could be the
    same part are refused; all other columns are ignored.

    Args:
        source: A file (.json, .jsonl, .csv, .tsv, .parquet), a folder (all such files directly in it, sorted by
            name), or a hub id.
        columns: Maps query, positive, negative or negatives to columns of the file; a mapped part is not looked for
            under other names.
        subset: Configuration of a data set on the hub.
        split: Split of a data set on the hub, ``train`` by default.
        require_negatives: Whether every triplet must have a negative of its own.

    Returns:
        The triplets in the order of the files. The ``source`` of each is ``file:line`` (``file:record N`` for .json,
        .parquet and the hub); their name is the name of the file, folder or data set.

    Raises:
        ConfigError: If an option does not apply to this source.
        DataError: If the source does not exist, or a record in it cannot be used.
    """
    check_mapping(columns)
    path = Path(source).expanduser()
    if path.exists():
        if subset is not None or split is not None:
            option = "split" if subset is None else "subset"
            raise ConfigError(
                f"{option}: {path} is a local file or folder.", f"Leave {option} out; it applies to the hub only."
            )
        name = path.resolve().name
        records = read_records(path)
    elif _looks_like_path(source):
        raise missing(path, f"{', '.join(_READERS)}, or a hub id")
    else:
        name = str(source)
        records = read_hub(name, subset=subset, split=split)
    items = list(parse_records(records, columns, require_negatives=require_negatives))
    if not items:
        raise DataError("holds no triplet.", "Give a file with at least one triplet.", source=source)
    return Triplets(items, name)


def read_records(source: str | Path) -> Iterator[Record]:
    """Yield the records of a local file, or of all files directly in a folder.

    Raises:
        DataError: If there is no such file, or its format cannot be read.
    """
    for file in files_of(source, _READERS, kind="triplet"):
        yield from _READERS[file.suffix.lower()](file)


def check_source(source: str | Path, *, columns: Mapping[str, str] | None = None) -> None:
    """Check data that are named although this run does not use them; hub ids are not looked up.

    Raises:
        DataError: If a local source does not exist or cannot be used.
    """
    if Path(source).expanduser().exists() or _looks_like_path(source):
        read_triplets(source, columns=columns)


def _looks_like_path(source: str | Path) -> bool:
    """Return whether ``source`` is meant as a path rather than as a hub id (``name`` or ``owner/name``)."""
    text = str(source)
    return (
        isinstance(source, Path)
        or Path(text).suffix.lower() in _READERS
        or text.startswith((".", "/", "~"))
        or "\\" in text
        or text.count("/") > 1
        or ("/" in text and Path(text).parent.is_dir())
    )
