"""Reading the records of JSON files and of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gaprune.errors import DataError
from gaprune.util.json_lines import Record, decode_json, record_of
from gaprune.util.text_files import read_lines, read_text

_LIST = ("query", "positive")


def read_jsonl(path: Path) -> Iterator[Record]:
    """Yield the record on every line; a list of texts is a query, a positive and negatives.

    Raises:
        DataError: If a line is something else.
    """
    for number, line in read_lines(path):
        if line.strip():
            yield _record(decode_json(line.rstrip(), path, number), path, number, is_line=True)


def read_json(path: Path) -> Iterator[Record]:
    """Yield the records of a JSON file that is a list of them, or an object with exactly one list in it.

    A file with a whole object on its first line and more lines after it is read as JSON lines, which many data sets
    have under this name.

    Raises:
        DataError: If the file is something else.
    """
    text = read_text(path)
    if _has_lines(text, path):
        yield from read_jsonl(path)
        return
    content = decode_json(text, path, 1)
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        if len(lists) != 1:
            found = f"{len(lists)} lists ({', '.join(map(repr, lists))})" if lists else "no list"
            raise DataError(
                f"is an object with {found} in it; it must have exactly one list of records.",
                "Leave one list in the object, make the file a list of objects, or write one object per line as "
                '.jsonl (pandas: to_json(path, orient="records", lines=True)).',
                source=path,
            )
        content = next(iter(lists.values()))
    if not isinstance(content, list):
        raise DataError("is not a list of objects.", "Make the file a list of objects.", source=path)
    for number, value in enumerate(content, start=1):
        yield _record(value, path, number, is_line=False)


def _has_lines(text: str, path: Path) -> bool:
    first, _, others = text.lstrip().partition("\n")
    if not (first.startswith("{") and others.strip()):
        return False
    try:
        decode_json(first.rstrip(), path, 1)
    except DataError:
        return False
    return True


def _record(value: object, path: Path, number: int, *, is_line: bool) -> Record:
    if isinstance(value, list) and len(value) >= len(_LIST) and all(isinstance(each, str) for each in value):
        value = dict(zip(_LIST, value, strict=False)) | {"negatives": value[len(_LIST) :]}
    return record_of(value, path, number, is_line=is_line)
