"""Reading queries of the user's own: each with its document or its passage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.data.columns import NAMES, recognised
from gaprune.data.pairs import Pair
from gaprune.data.passages import Passage
from gaprune.data.read import read_records
from gaprune.errors import DataError, suggest

if TYPE_CHECKING:
    from gaprune.data.bm25 import Bm25
    from gaprune.data.documents import Document
    from gaprune.data.records import Record

__all__ = ["read_queries"]

_DOCUMENT = ("document", "document_id", "doc_id", "corpus_id", "corpus-id")


def read_queries(
    source: str | Path, documents: Sequence[Document], passages: Sequence[Passage], index: Bm25
) -> list[Pair]:
    """Read queries from a file: ``query``, with ``document`` (an id) or ``positive`` (the passage itself).

    Of a document that is named, the passage that BM25 finds for the query is its positive.

    Args:
        source: A file or folder of the formats of triplets.
        documents: What ids name.
        passages: Their passages.
        index: BM25 of the passages.

    Raises:
        DataError: If the file cannot be read, or a record lacks a text or names no document; with file and line.
    """
    known = {document.id: number for number, document in enumerate(documents)}
    members: dict[int, list[int]] = {}
    for position, passage in enumerate(passages):
        members.setdefault(passage.document, []).append(position)
    pairs = []
    for record in read_records(source):
        query = record.text(*_column(record, "query", NAMES["query"]))
        named = recognised(record, "document", _DOCUMENT)
        if named is None:
            text = record.text(*_column(record, "positive or document", (*NAMES["positive"], *_DOCUMENT)))
            pairs.append(Pair("query", query, text, text, (), record.source))
            continue
        own = members.get(known[_known(record, named, known)], [])
        if not own:
            raise record.error(
                f"the document {record.fields[named]!r} has no passage left.",
                "It is empty, too short, or a near-duplicate of an earlier one; lower --min-words (min_words=...), or "
                "give the passage itself as positive.",
            )
        scores = index.scores([query])[0]
        best = max(own, key=lambda position: (scores[position], -position))
        text = passages[best].text
        pairs.append(Pair("query", query, text, text, frozenset(own), record.source))
    if not pairs:
        raise DataError("holds no query.", "Give a file with at least one query.", source=source)
    return pairs


def _column(record: Record, word: str, names: Sequence[str]) -> tuple[str, object]:
    """Return the one column that goes by one of ``names``, and its value."""
    found = recognised(record, word, names)
    if found is None:
        listed = ", ".join(map(repr, record.fields)) or "none"
        raise record.error(
            f"has no {word}: its columns are {listed}.", f"Call it {' or '.join(map(repr, names))}, one of them."
        )
    return found, record.fields[found]


def _known(record: Record, column: str, known: dict[str, int]) -> str:
    value = str(record.fields[column])
    if value not in known:
        raise record.error(
            f"there is no document {value!r}.{suggest(value, known)}",
            "Give the _id of a JSONL line, or the path of a file within the folder of documents.",
        )
    return value
