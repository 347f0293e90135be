"""Reading queries of the user, each with its document or its passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gaprune.data.documents.pairs import Pair
from gaprune.data.documents.passages import Passage
from gaprune.data.documents.read import Document
from gaprune.data.documents.search import Bm25
from gaprune.data.read import read_records
from gaprune.data.readers.columns import NAMES, Faults, recognised
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
        of_query, column, of_positive = _columns(record)
        query = record.text(of_query)
        if not column:
            text = record.text(of_positive)
            pairs.append(Pair("query", query, text, text, (), record.source))
        else:
            own = _passages_of(record, column, members)
            scores = index.scores([query])[0]
            text = passages[max(own, key=lambda position: (scores[position], -position))].text
            pairs.append(Pair("query", query, text, text, frozenset(own), record.source))
    if not pairs:
        raise DataError("holds no query.", "Give a file with at least one query.", source=source)
    return pairs


def _columns(record: Record) -> tuple[str, str, str]:
    """Return the columns of the query, of the document and of the positive, of which one of the last two is empty."""
    found = {
        "query": recognised(record, NAMES["query"]),
        "document": recognised(record, _DOCUMENT),
        "positive": recognised(record, NAMES["positive"]),
    }
    if found["document"]:
        found["positive"] = []
    faults = Faults(record, option=None)
    if not found["query"]:
        faults.missing("query", NAMES["query"])
    if not (found["document"] or found["positive"]):
        faults.missing("positive or document", (*NAMES["positive"], *_DOCUMENT))
    for part, columns in found.items():
        if len(columns) > 1:
            faults.ambiguous(part, columns)
    faults.refuse()
    query, document, positive = ("".join(columns) for columns in found.values())
    return query, document, positive


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
