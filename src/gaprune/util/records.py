"""Typed records of what was done: results of the steps of a run, and parts of the provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gaprune.errors import ModelError

SCHEMA = 2
"""Version of the format of all records; others are refused."""


class Record(BaseModel):
    """A part of the provenance; built from keywords, plain data, or any object with attributes of these names."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


Kind = TypeVar("Kind", bound=Record)


def read_record(kind: type[Kind], path: Path, *, damaged: str, older: str) -> Kind:
    """Return the record of the file ``path``, whose top level has the version of the format as ``schema``.

    Args:
        kind: What the file holds.
        path: A JSON file.
        damaged: What to do if it is not what GAPrune writes.
        older: What to do if another version of GAPrune wrote it.

    Raises:
        ModelError: If the file cannot be read, or is of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", damaged) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not what GAPrune writes.", damaged)
    if content.get("schema") != SCHEMA:
        found = f"has schema {content['schema']!r}" if "schema" in content else "has no schema version"
        raise ModelError(f"{path} {found}; this GAPrune reads schema {SCHEMA}.", older)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(f"{path} is not what GAPrune writes: {where}: {first['msg']}.", damaged) from error
