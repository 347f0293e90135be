"""Reading triplets from files, folders and the hub, and texts without queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path

from gaprune.config.data import DomainReading
from gaprune.data.readers.columns import check_mapping
from gaprune.data.readers.csv_files import read_csv
from gaprune.data.readers.files import files_of, missing
from gaprune.data.readers.folders import read_folder
from gaprune.data.readers.hub import read_hub
from gaprune.data.readers.json_files import read_json, read_jsonl
from gaprune.data.readers.parquet_files import read_parquet
from gaprune.data.readers.records import parse_records
from gaprune.data.samples import sample_triplets
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.util.json_lines import Record, read_json_lines
from gaprune.util.progress import quiet
from gaprune.util.text_files import format_of, read_lines

_READERS: dict[str, Callable[[Path], Iterable[Record]]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}

TRIPLET_SUFFIXES = tuple(_READERS)
"""Endings of the names of files that hold triplets."""

DEFAULT_GENERAL = "sentence-transformers/all-nli"
"""Public general data on the hub: AllNLI triplets (SNLI and MultiNLI)."""

_SUBSET = "triplet"

_HEAD = 10_000
"""Records that are read of data that are only checked."""


def read_triplets(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    skip_empty: bool = False,
    require_negatives: bool = False,
) -> Triplets:
    """Read triplets from a file, a folder or a data set on the hub.

    Without ``columns`` the names in :data:`gaprune.data.readers.columns.NAMES` are recognised in any case, and
    ``negative_1`` to ``negative_n``; two columns that could be the same part are refused, all others are ignored. A
    column of positives or negatives holds one text, null or a list of texts (in a CSV column named for several, as
    JSON or as Python writes it). Every positive makes a triplet. The layouts of MS MARCO, BEIR, FlagEmbedding and
    sentence-transformers are described in ``docs/data.md``.

    Args:
        source: A file (.json, .jsonl, .csv, .tsv, .parquet; all but the last also compressed: .gz, .bz2, .zst), a
            folder (all such files directly in it, sorted by name, or a data set in a published layout), or a hub id.
        columns: Maps query, positive, negative, negative_1 to negative_n or negatives to columns of the file; a mapped
            part is not looked for under other names.
        subset: Configuration of a data set on the hub, or a folder in the folder.
        split: Split of a data set on the hub or in a folder, ``train`` by default.
        skip_empty: Whether records that lack a text are left out, which is said, rather than refused.
        require_negatives: Whether every triplet must have a negative of its own.

    Returns:
        The triplets in the order of the files. The ``source`` of each is ``file:line`` (``file:record N`` for .json,
        .parquet and the hub); their name is the name of the file, folder or data set.

    Raises:
        ConfigError: If an option does not apply to this source.
        DataError: If the source does not exist, or a record in it cannot be used.
    """
    return _read(source, columns, subset, split, skip_empty=skip_empty, require_negatives=require_negatives)


def read_domain(source: str | Path, asked: DomainReading, *, require_negatives: bool = False) -> Triplets:
    """Read triplets of the domain as the options of a command say.

    Raises:
        GapruneError: As :func:`read_triplets`.
    """
    return read_triplets(
        source,
        columns=asked.columns or None,
        subset=asked.subset,
        split=asked.split,
        skip_empty=asked.skip_empty,
        require_negatives=require_negatives,
    )


def _read(
    source: str | Path,
    columns: Mapping[str, str] | None,
    subset: str | None,
    split: str | None,
    *,
    require_negatives: bool,
    skip_empty: bool | None = None,
    prefix: str = "",
    first: int | None = None,
) -> Triplets:
    """Read triplets, of the ``first`` records if not of all; errors name options with ``prefix`` before them."""
    check_mapping(columns, f"{prefix}columns")
    path = Path(source).expanduser()
    if path.is_dir():
        name = path.resolve().name
        records = read_folder(path, _READERS, subset=subset, split=split)
    elif path.exists():
        for option, value in (("subset", subset), ("split", split)):
            if value is not None:
                remedy = f"Leave {prefix}{option} out; it applies to folders and to the hub."
                raise ConfigError(f"{prefix}{option}: {path} is a file.", remedy)
        name = path.resolve().name
        records = read_records(path)
    elif _looks_like_path(source):
        raise missing(path, f"{', '.join(_READERS)}, or a hub id")
    else:
        name = str(source)
        records = read_hub(name, subset=subset, split=split)
    found = parse_records(
        islice(records, first),
        columns,
        require_negatives=require_negatives,
        option=f"{prefix}columns",
        skip_empty=skip_empty,
    )
    items = list(found)
    if not items:
        raise DataError("holds no triplet.", "Give a file with at least one triplet.", source=source)
    return Triplets(items, name)


def read_records(source: str | Path) -> Iterator[Record]:
    """Yield the records of a local file, or of all files directly in a folder.

    Raises:
        DataError: If there is no such file, or its format cannot be read.
    """
    for file in files_of(source, _READERS, kind="triplet"):
        yield from _READERS[format_of(file)](file)


def check_source(
    source: str | Path,
    columns: Mapping[str, str],
    subset: str | None,
    split: str | None,
    *,
    skip_empty: bool | None = None,
    prefix: str = "",
) -> None:
    """Check the first records of data that are read later or not at all; hub ids are not looked up.

    Args:
        source: As for :func:`read_triplets`, and so are the others.
        columns: Columns that are mapped; empty for none.
        subset: Configuration or folder.
        split: Split.
        skip_empty: Whether records that lack a text are left out; ``None`` where there is no such option.
        prefix: Beginning of the names of these options, ``general_`` for those of general data.

    Raises:
        ConfigError: If an option does not apply to this source.
        DataError: If a local source does not exist or cannot be used.
    """
    if Path(source).expanduser().exists() or _looks_like_path(source):
        with quiet():  # whoever reads all of it says what it notices
            _read(
                source, columns or None, subset, split, require_negatives=False, skip_empty=skip_empty, prefix=prefix,
                first=_HEAD,
            )  # fmt: skip


def _looks_like_path(source: str | Path) -> bool:
    """Return whether ``source`` is meant as a path rather than as a hub id (``name`` or ``owner/name``)."""
    text = str(source)
    return (
        isinstance(source, Path)
        or format_of(Path(text)) in _READERS
        or text.startswith((".", "/", "~"))
        or "\\" in text
        or text.count("/") > 1
        or ("/" in text and Path(text).parent.is_dir())
    )


def read_general(
    source: str | Path | None,
    *,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    require_negatives: bool = False,
    most: int | None = None,
    seed: int = 0,
) -> Triplets:
    """Read general triplets from ``source``, or :data:`DEFAULT_GENERAL` from the hub for ``None``.

    Args:
        source: As for :func:`read_triplets`, or ``None`` for the default.
        columns: As for :func:`read_triplets`; only with a source.
        subset: As for :func:`read_triplets`; only with a source.
        split: As for :func:`read_triplets`; for the default it may be a slice such as ``train[:20000]``.
        require_negatives: Whether every triplet must have a negative of its own.
        most: Draw at most this many triplets of the default, unless ``split`` is given.
        seed: Seed of that draw.

    Raises:
        ConfigError: If ``columns`` or ``subset`` is given without a source.
        DataError: If the source cannot be read; for the default the message names alternatives.
    """
    if source is not None:
        return _read(source, columns, subset, split, require_negatives=require_negatives, prefix="general_")
    for option, value in (("columns", columns), ("subset", subset)):
        if value is not None:
            raise ConfigError(
                f"general_{option}: it is given, but no general data are named.",
                f"Name them with --general (general=...), or leave it out to use {DEFAULT_GENERAL}.",
            )
    most = most if split is None else None
    try:
        records = read_hub(DEFAULT_GENERAL, subset=_SUBSET, split=split, most=most, seed=seed)
        return Triplets(list(parse_records(records, None, require_negatives=require_negatives)), DEFAULT_GENERAL)
    except DataError as error:
        raise DataError(
            f"the default general data cannot be used: {error.problem}",
            f"Supply general triplets with --general FILE (general=... in Python). The small sample set of this "
            f"package is enough for a first try: --general {sample_triplets('general')}",
            source=DEFAULT_GENERAL,
        ) from error


def read_texts(path: str | Path) -> list[str]:
    """Read the texts of a corpus, in the order of the files.

    Args:
        path: A .txt file (one text per line), a .jsonl file (objects with a ``text``, or triplets, of which every
            text counts), or a folder (all such files directly in it, sorted by name).

    Raises:
        DataError: If there is no such file or no text in it, or a line cannot be used.
    """
    files = files_of(path, (".jsonl", ".txt"), kind="text")
    texts = [text for file in files for text in _file_texts(file)]
    if not texts:
        raise DataError("holds no text.", "Give a file with at least one text.", source=path)
    return texts


def _file_texts(file: Path) -> Iterator[str]:
    if format_of(file) == ".txt":
        yield from (line.strip() for _, line in read_lines(file) if line.strip())
        return
    for has_text, records in groupby(read_json_lines(file), key=lambda record: "text" in record.fields):
        if has_text:
            yield from (record.text("text") for record in records)
        else:
            for triplet in parse_records(records, None, require_negatives=False):
                yield from (triplet.query, *triplet.passages)
