"""Reading JSON files that hold a list of records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.errors import DataError
from gaprune.util.json_lines import Record, decode_json, read_text, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_json"]


def read_json(path: Path) -> Iterator[Record]:
    """Yield the objects of a JSON file that is a list of objects, or an object with exactly one list in it.

    Raises:
        DataError: If the file is something else, or a record is not an object.
    """
    content = decode_json(read_text(path), path, 1)
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        if len(lists) != 1:
            found = f"{len(lists)} lists ({', '.join(map(repr, lists))})" if lists else "no list"
            raise DataError(
                f"is an object with {found} in it; it must have exactly one list of records.",
                "Leave one list in the object, make the file a list of objects, or write one object per line as "
                ".jsonl.",
                source=path,
            )
        content = next(iter(lists.values()))
    if not isinstance(content, list):
        raise DataError("is not a list of objects.", "Make the file a list of objects.", source=path)
    for number, value in enumerate(content, start=1):
        yield record_of(value, path, number, is_line=False)
