"""Reading a corpus: texts of a domain without queries and answers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from gaprune.data.readers.files import files_of
from gaprune.data.readers.records import parse_records
from gaprune.errors import DataError
from gaprune.util.json_lines import read_json_lines
from gaprune.util.text_files import format_of, read_lines


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
