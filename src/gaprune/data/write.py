"""Writing triplets."""

from __future__ import annotations

import json
import os
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gaprune.data.triplets import Triplet, Triplets

__all__ = ["write_triplets"]


def _line(triplet: Triplet, note: Mapping[str, str]) -> str:
    fields: dict[str, object] = {"query": triplet.query, "positive": triplet.positive}
    if len(triplet.negatives) == 1:
        fields["negative"] = triplet.negatives[0]
    elif triplet.negatives:
        fields["negatives"] = list(triplet.negatives)
    fields |= note
    return json.dumps(fields, ensure_ascii=False) + "\n"


def write_triplets(
    triplets: Triplets,
    path: str | Path,
    *,
    overwrite: bool = False,
    notes: Sequence[Mapping[str, str]] | None = None,
) -> Path:
    """Write triplets as JSONL; the file appears under its name only when it is whole.

    Args:
        triplets: What to write.
        path: A file that ends in ``.jsonl``; missing folders are made.
        overwrite: Whether an existing file may be replaced.
        notes: Further columns of each triplet, which are ignored when they are read.

    Returns:
        The file.

    Raises:
        OutputError: If the file exists already, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise OutputError(f"{path}: triplets are written as JSONL.", "Give a name that ends in .jsonl.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already.", "Choose another name, or pass overwrite=True (--overwrite).")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(map(_line, triplets, repeat({}) if notes is None else notes))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Choose a writable folder.") from error
    return path
