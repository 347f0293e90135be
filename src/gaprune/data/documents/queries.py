"""Reading queries of the user, each with its document or its passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gaprune.data.documents.pairs import Pair
from gaprune.data.documents.passages import Passage
from gaprune.data.documents.read import Document
from gaprune.data.documents.search import Bm25
from gaprune.data.read import read_records
from gaprune.data.readers.columns import NAMES, recognised
from gaprune.errors import DataError, suggest
from gaprune.util.json_lines import Record

_DOCUMENT = ("document", "document_id", "doc_id", "corpus_id", "corpus-id")


def read_queries(
    source: str | Path, documents: Sequence[Document], passages: Sequence[Passage], index: Bm25
) -> list[Pair]:
    """Read queries from a file: ``query``, with ``document`` (an id) or ``positive`` (the passage itself).

    The positive in a named document is the passage that BM25 ranks highest for the query.

    Raises:
        DataError: If the file cannot be read, or a record lacks a text or a known document.
    """
    members: dict[str, list[int]] = {document.id: [] for document in documents}
    for position, passage in enumerate(passages):
        members[documents[passage.document].id].append(position)
    pairs = []
    for record in read_records(source):
        query = record.text(_column(record, "query", NAMES["query"]))
        column = recognised(record, "document", _DOCUMENT)
        if column is None:
            text = record.text(_column(record, "positive or document", (*NAMES["positive"], *_DOCUMENT)))
            pairs.append(Pair("query", query, text, text, (), record.source))
        else:
            own = _passages_of(record, column, members)
            scores = index.scores([query])[0]
            text = passages[max(own, key=lambda position: (scores[position], -position))].text
            pairs.append(Pair("query", query, text, text, frozenset(own), record.source))
    if not pairs:
        raise DataError("holds no query.", "Give a file with at least one query.", source=source)
    return pairs


def _column(record: Record, part: str, names: Sequence[str]) -> str:
    found = recognised(record, part, names)
    if found is None:
        raise record.error(
            f"has no {part}; its columns are {record.columns}.", f"Name one column {' or '.join(map(repr, names))}."
        )
    return found


def _passages_of(record: Record, column: str, members: Mapping[str, list[int]]) -> list[int]:
    name = str(record.fields[column])
    if name not in members:
        raise record.error(
            f"there is no document {name!r}.{suggest(name, members)}",
            "Give the _id of a JSONL line, or the path of a file within the folder of documents.",
        )
    if not members[name]:
        raise record.error(
            f"the document {name!r} has no passage.",
            "It is empty, too short, or a near-duplicate of an earlier one; lower --min-words (shortest=...), or give "
            "the passage itself as positive.",
        )
    return members[name]
