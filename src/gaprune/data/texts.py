"""Reading a corpus: texts that stand for a domain, without queries and answers."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.data.json_files import read_jsonl
from gaprune.data.parse import parse_records
from gaprune.data.records import Record, read_text
from gaprune.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_texts"]

_FORMATS = (".jsonl", ".txt")


def read_texts(path: str | Path) -> list[str]:
    """Read the texts of a corpus, in the order of the files.

    Args:
        path: A .txt file (a text on every line that is not blank), a .jsonl file (of objects with a ``text``, or of
            triplets, whose every text counts), or a folder (all such files directly in it, sorted by name).

    Raises:
        DataError: If there is no such file or no text in it, or a line is unusable; the file and line are named.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        files = sorted(
            entry
            for entry in source.iterdir()
            if entry.is_file() and entry.suffix.lower() in _FORMATS and not entry.name.startswith(".")
        )
        if not files:
            raise DataError("the folder holds no .txt or .jsonl file.", "Put texts directly in it.", source=source)
    elif source.is_file():
        files = [source]
    else:
        near = suggest(source.name, (each.name for each in source.parent.iterdir())) if source.parent.is_dir() else ""
        raise DataError(f"does not exist.{near}", "Give a .txt or .jsonl file, or a folder of them.", source=source)
    texts = [text for file in files for text in _file_texts(file)]
    if not texts:
        raise DataError("holds no text.", "Give a file with at least one text.", source=source)
    return texts


def _file_texts(file: Path) -> Iterator[str]:
    ending = file.suffix.lower()
    if ending == ".txt":
        yield from (line.strip() for line in read_text(file).split("\n") if line.strip())
    elif ending == ".jsonl":
        for has_text, records in groupby(read_jsonl(file), key=lambda record: "text" in record.fields):
            if has_text:
                yield from map(_text, records)
            else:
                for triplet in parse_records(records, None, require_negatives=False):
                    yield from (triplet.query, *triplet.passages)
    else:
        raise DataError(
            f"the ending {file.suffix!r} is no format of texts read here.", "Use .txt or .jsonl.", source=file
        )


def _text(record: Record) -> str:
    text = record.fields["text"]
    if not isinstance(text, str) or not text.strip():
        raise record.error(
            f"the field 'text' holds {text!r:.60}, not a text.", "Put a text there, or remove the line."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = f"the field 'text' holds half a surrogate pair ({text[error.start]!a}), which is no text."
        raise record.error(problem, "Remove it; the text was cut or decoded wrongly before.") from error
    return text
