"""Writing triplets."""

from __future__ import annotations

import json
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import OutputError
from gaprune.util.files import check_file, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gaprune.data.triplets import Triplet, Triplets


def write_triplets(
    triplets: Triplets,
    path: str | Path,
    *,
    overwrite: bool = False,
    notes: Sequence[Mapping[str, str]] | None = None,
) -> Path:
    """Write triplets as JSONL; the file appears under its name only when it is complete.

    Args:
        triplets: The triplets to write.
        path: A file that ends in ``.jsonl``; missing folders are created.
        overwrite: Whether an existing file may be replaced.
        notes: Further columns for each triplet; they are ignored when the file is read.

    Returns:
        The file.

    Raises:
        OutputError: If the file exists already, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise OutputError(f"{path}: triplets are written as JSONL.", "Give a name that ends in .jsonl.")
    check_file(path, overwrite=overwrite)
    return write_text(path, "".join(map(_line, triplets, repeat({}) if notes is None else notes)))


def _line(triplet: Triplet, note: Mapping[str, str]) -> str:
    fields: dict[str, object] = {"query": triplet.query, "positive": triplet.positive}
    if len(triplet.negatives) == 1:
        fields["negative"] = triplet.negatives[0]
    elif triplet.negatives:
        fields["negatives"] = list(triplet.negatives)
    return json.dumps(fields | dict(note), ensure_ascii=False) + "\n"
