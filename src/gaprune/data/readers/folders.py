"""Finding the triplets in a folder: files, a data set as the hub lays it out, or one that ``datasets`` saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gaprune.data.readers.files import files_in, files_of
from gaprune.data.readers.hub import SAVED, read_saved
from gaprune.data.readers.judged import find_judged, is_judged, read_pairs
from gaprune.errors import ConfigError, DataError
from gaprune.util.json_lines import Record
from gaprune.util.progress import say
from gaprune.util.text_files import format_of

_SPLIT = re.compile(
    r"(?:^|[-_. ])(train(?:ing)?|test(?:ing)?|dev|val|valid|validation|eval|evaluation)(?=[-_. \d])", re.IGNORECASE
)
"""The word in a file's name that tells the split: ``train-00000-of-00001.parquet``, ``en-train.jsonl``."""

_SPELLED = {"training": "train", "testing": "test"}
_PARTS = ("corpus", "queries")
"""Folders in which the hub keeps a data set of BEIR as Parquet."""


def read_folder(
    path: Path, readers: Mapping[str, Callable[[Path], Iterable[Record]]], *, subset: str | None, split: str | None
) -> Iterator[Record]:
    """Yield the records of a folder; if its files are those of several splits, of ``train`` or the one named.

    Raises:
        ConfigError: If there is no such subset or split.
        DataError: If there is no file, or one cannot be read.
    """
    folder = path if subset is None else path / subset
    if not folder.is_dir():
        known = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise ConfigError(f"subset: {path} has no folder {subset!r}.", f"It has {', '.join(known) or 'none'}.")
    if any((folder / name).exists() for name in SAVED):
        yield from read_saved(folder, split=split)
    elif is_judged(folder):
        yield from read_pairs(find_judged(folder, split or "train"))
    else:
        below = next((name for name in ("data", split or "train") if (folder / name).is_dir()), None)
        if below is not None and not files_in(folder, readers):
            folder /= below
            split = split if below == "data" else None
        _refuse_parts(folder)
        for file in _of_split(folder, files_of(folder, readers, kind="triplet"), split):
            yield from readers[format_of(file)](file)


def _of_split(folder: Path, files: Sequence[Path], split: str | None) -> Sequence[Path]:
    """Return the files of a split; all of them if none is named and they are not of several splits."""
    by_split: dict[str, list[Path]] = {}
    for file in files:
        match = _SPLIT.search(file.name)
        name = match[1].lower() if match else ""
        by_split.setdefault(_SPELLED.get(name, name), []).append(file)
    named = sorted(filter(None, by_split))
    if split is None and (len(named) < 2 or "" in by_split):
        if len(named) > 1:
            say(f"{folder}: all files are read, with those of the splits {', '.join(named)}; split names one of them.")
        return files
    chosen = split or "train"
    if chosen not in named:
        remedy = f"Name one of {', '.join(named)} (split=...)." if named else "Leave split out."
        raise ConfigError(f"split: {folder} has no files of the split {chosen!r}.", remedy)
    if split is None:
        say(f"{folder}: of the splits {', '.join(named)}, {chosen} is read.")
    return by_split[chosen]


def _refuse_parts(folder: Path) -> None:
    """Refuse a data set of BEIR whose parts are Parquet, as newer repositories of the hub have them."""
    if all((folder / part).is_dir() or any(folder.glob(f"{part}-*")) for part in _PARTS):
        raise DataError(
            f"holds {' and '.join(_PARTS)} of a retrieval task, but no corpus.jsonl.",
            "Write each part as BEIR does: datasets.Dataset.from_parquet(FILE).to_json('corpus.jsonl'), in the same "
            "way queries.jsonl, and qrels/train.tsv with query-id, corpus-id and score.",
            source=folder,
        )
