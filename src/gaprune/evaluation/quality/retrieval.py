"""Retrieval tasks in the file layout of BEIR."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gaprune.errors import DataError, suggest
from gaprune.evaluation.quality.files import fingerprint, read_records, require_files
from gaprune.evaluation.quality.task import Task
from gaprune.util.json_lines import Record, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["RetrievalTask"]


@dataclass(frozen=True, kw_only=True)
class RetrievalTask(Task):
    """Find the relevant documents for each query, by cosine similarity.

    Args:
        queries: Text of each judged query by id.
        documents: Title and text of each document by id.
        grades: Grade above 0 of each relevant document, by query and document.
    """

    kind: ClassVar[str] = "retrieval"
    metric: ClassVar[str] = "nDCG@10"

    queries: Mapping[str, str] = field(repr=False, compare=False)
    documents: Mapping[str, str] = field(repr=False, compare=False)
    grades: Mapping[str, Mapping[str, float]] = field(repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, domain: str = "") -> RetrievalTask:
        """Read ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``.

        Queries without a judgement are ignored, as in BEIR (they belong to other splits).

        Raises:
            DataError: If a file is missing, or a line of one cannot be used.
        """
        files = require_files(folder, "retrieval", "corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
        documents = _read_texts(files[0], titles=True)
        queries = _read_texts(files[1], titles=False)
        grades = _read_judgements(files[2], queries, documents)
        return cls(
            name=folder.name,
            domain=domain,
            fingerprint=fingerprint(*files),
            queries={query: text for query, text in queries.items() if query in grades},
            documents=documents,
            grades=grades,
        )

    def texts(self) -> Iterator[str]:
        """Yield the judged queries, then the relevant documents."""
        yield from self.queries.values()
        for document in dict.fromkeys(document for found in self.grades.values() for document in found):
            yield self.documents[document]

    def metrics(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:
        """Return nDCG@10, recall@10 and MRR@10."""
        from gaprune.evaluation.quality.metrics import embed, retrieval_metrics

        texts, queries = list(self.documents.values()), list(self.queries.values())
        return retrieval_metrics(
            embed(model, queries, "query", prompts, batch_size=batch_size, task=self.name),
            embed(model, texts, "passage", prompts, batch_size=batch_size, task=self.name),
            list(self.documents),
            [self.grades[query] for query in self.queries],
            k=10,
        )


def _read_texts(path: Path, *, titles: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for record in read_records(path):
        identifier = record.identifier("_id")
        if identifier in texts:
            raise record.error(
                f"the id {identifier!r} was already used in line {lines[identifier]}.", "Give every line its own _id."
            )
        texts[identifier] = _title_and_text(record) if titles else record.text("text")
        lines[identifier] = record.number
    return texts


def _title_and_text(record: Record) -> str:
    title = record.check_text("title", record.fields.get("title") or "", may_be_empty=True)
    text = record.check_text("text", record.field("text"), may_be_empty=True)
    return record.check_text("text", f"{title} {text}".strip())


def _read_judgements(
    path: Path, queries: Mapping[str, str], documents: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return the grades above 0 of each query's documents."""
    judged: dict[str, dict[str, float]] = {}
    for row, query, document, grade in _judgements(path):
        for kind, identifier, known, file in (
            ("query", query, queries, "queries.jsonl"),
            ("document", document, documents, "corpus.jsonl"),
        ):
            if identifier not in known:
                problem = f"the {kind} {identifier!r} is unknown.{suggest(identifier, known)}"
                raise row.error(problem, f"Add it to {file}, or remove the line.")
        if judged.setdefault(query, {}).setdefault(document, grade) != grade:
            problem = f"query {query!r} and document {document!r} have another score above."
            raise row.error(problem, "Keep one of the judgements.")
    relevant = {query: {d: g for d, g in found.items() if g > 0} for query, found in judged.items()}
    relevant = {query: found for query, found in relevant.items() if found}
    if not relevant:
        raise DataError("no document is relevant to any query.", "Add lines with a score above 0.", source=path)
    return relevant


def _judgements(path: Path) -> Iterator[tuple[Record, str, str, float]]:
    """Yield query, document and grade of each line after the header, with the line for errors."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        row = Record(path, number, {})
        columns = [column.strip() for column in line.rstrip("\r\n").split("\t")]
        if len(columns) != 3:
            raise row.error(
                f"has {len(columns)} columns separated by tabs, not 3.", "Write query-id, corpus-id, score."
            )
        query, document, score = columns
        grade = _number(score)
        if number > 1 and grade is None:
            raise row.error(f"the score {score!r} is not a number.", "Write 1 for a relevant document.")
        if number == 1 and grade is not None:
            raise row.error("the header is missing.", "Write query-id, corpus-id and score in the first line.")
        if grade is not None:
            yield row, query, document, grade


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
