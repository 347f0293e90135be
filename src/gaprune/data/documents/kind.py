"""Whether a source holds plain documents, or triplets."""

from __future__ import annotations

from pathlib import Path

from gaprune.data.documents.read import DOCUMENT_SUFFIXES
from gaprune.data.readers.columns import NAMES
from gaprune.errors import DataError
from gaprune.util.json_lines import read_json_lines


def holds_documents(source: str | Path) -> bool:
    """Return whether ``source`` holds documents from which triplets have to be made, not triplets.

    A ``.jsonl`` file holds triplets if its first object has a query and a positive; a name that is no file and no
    folder is a data set of triplets on the hub.

    Raises:
        DataError: If a folder holds both.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return False
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if _counts(each, path))
    kinds = {_is_document(each): each for each in files}
    if len(kinds) > 1:
        raise DataError(
            f"holds both documents ({kinds[True].name}) and triplets ({kinds[False].name}).",
            "Put them into folders of their own, and name one of them.",
            source=path,
        )
    return next(iter(kinds), False)


def _counts(path: Path, folder: Path) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_document(path: Path) -> bool:
    if path.suffix.lower() == ".jsonl":
        first = next(iter(read_json_lines(path)), None)
        names = {name.strip().lower() for name in first.fields} if first is not None else set()
        return not (names & set(NAMES["query"]) and names & set(NAMES["positive"]))
    return path.suffix.lower() in DOCUMENT_SUFFIXES
