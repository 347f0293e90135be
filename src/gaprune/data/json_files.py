"""Reading JSON and JSONL with the line of every mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gaprune.data.records import Record, read_text
from gaprune.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["read_json", "read_jsonl"]

_REPAIR = "Correct the JSON there; every quote, comma and bracket counts."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that stands there twice: JSON would keep only the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _decode(text: str, path: Path, first_line: int) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        problem = f"is no valid JSON: {error.msg} (column {error.colno})."
        raise DataError(problem, _REPAIR, source=path, line=first_line + error.lineno - 1) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no usable JSON: {error}.", _REPAIR, source=path, line=first_line) from error


def _kind(value: object) -> str:
    names = {str: "a text", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")


def _record(value: object, path: Path, number: int, *, is_line: bool) -> Record:
    if isinstance(value, dict):
        return Record(str(path), number, value, is_line=is_line)
    raise Record(str(path), number, {}, is_line=is_line).error(
        f"is {_kind(value)}, not an object.", 'Write every record as an object: {"name": "text", ...}.'
    )


def read_jsonl(path: Path) -> Iterator[Record]:
    """Yield the object on every line of a JSONL file; blank lines are skipped.

    Raises:
        DataError: With the line, if one is no JSON object.
    """
    # Not splitlines(): JSON texts may hold U+2028 and its like, which are no line ends here.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield _record(_decode(line, path, number), path, number, is_line=True)


def read_json(path: Path) -> Iterator[Record]:
    """Yield the objects of a JSON file that is a list of them, or an object with one list in it.

    Raises:
        DataError: If the file is no such JSON, or a record is no object.
    """
    content = _decode(read_text(path), path, 1)
    if isinstance(content, dict):
        lists = {name: value for name, value in content.items() if isinstance(value, list)}
        if len(lists) != 1:
            found = f"{len(lists)} lists ({', '.join(map(repr, lists))})" if lists else "no list"
            raise DataError(
                f"is an object with {found} in it; one list of triplets is needed.",
                "Leave one list in the object, make the file a list of objects, or write one object a line as .jsonl.",
                source=path,
            )
        content = next(iter(lists.values()))
    if not isinstance(content, list):
        raise DataError(
            f"is {_kind(content)}, not a list of objects.", "Make the file a list of objects.", source=path
        )
    for number, value in enumerate(content, start=1):
        yield _record(value, path, number, is_line=False)
