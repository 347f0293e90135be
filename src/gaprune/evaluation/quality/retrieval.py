"""Retrieval tasks in the layout of BEIR."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gaprune.errors import DataError, suggest
from gaprune.evaluation.quality.lines import Line, fingerprint, read_json_lines, read_text_lines
from gaprune.evaluation.quality.task import Task

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

        Queries without a judgement are left out, as BEIR does (they belong to other splits).

        Raises:
            DataError: If a file is missing, or a line of one cannot be used.
        """
        files = [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"]
        for file in files:
            if not file.is_file():
                raise DataError(
                    f"A retrieval task needs the file {file.relative_to(folder).as_posix()}, which is missing.",
                    "Give the folder corpus.jsonl, queries.jsonl and qrels/test.tsv.",
                    source=folder,
                )
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

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:
        """Return nDCG@10, recall@10 and MRR@10."""
        from sentence_transformers.util import cos_sim

        from gaprune.evaluation.quality.evaluators import Retrieval

        evaluator = Retrieval(
            self.grades,
            queries=dict(self.queries),
            corpus=dict(self.documents),
            accuracy_at_k=[10],
            precision_recall_at_k=[10],
            map_at_k=[10],
            batch_size=batch_size,
            name=self.name,
            write_csv=False,
            score_functions={"cosine": cos_sim},
            # An empty prompt, unlike None, also switches off the model's own.
            query_prompt=prompts.query,
            corpus_prompt=prompts.passage,
        )
        found = evaluator(model)
        names = {"nDCG@10": "ndcg@10", "recall@10": "recall@10", "MRR@10": "mrr@10"}
        return {name: found[f"{self.name}_cosine_{key}"] for name, key in names.items()}


def _read_texts(path: Path, *, titles: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line in read_json_lines(path):
        identifier = line.identifier("_id")
        if identifier in texts:
            raise line.error(
                f"The id {identifier!r} was already used in line {lines[identifier]}.", "Give every line its own _id."
            )
        texts[identifier] = _title_and_text(line) if titles else line.text("text")
        lines[identifier] = line.number
    return texts


def _title_and_text(line: Line) -> str:
    title, text = line.fields.get("title") or "", line.field("text")
    for name, value in (("title", title), ("text", text)):
        if value != "":
            line.check_text(name, value)
    return line.check_text("text", f"{title} {text}".strip())


def _read_judgements(
    path: Path, queries: Mapping[str, str], documents: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    judged: dict[str, dict[str, float]] = {}
    for number, text in read_text_lines(path):
        columns = [column.strip() for column in text.split("\t")]
        if len(columns) != 3:
            problem = f"The line has {len(columns)} columns separated by tabs, not 3."
            raise DataError(problem, "Write query-id, corpus-id and score.", source=path, line=number)
        query, document, score = columns
        grade = _number(score)
        if number == 1:
            if grade is not None:
                problem = "The first line is a judgement; it is the place of the header."
                raise DataError(problem, "Put query-id, corpus-id and score above.", source=path, line=number)
            continue
        if grade is None:
            problem = f"The score {score!r} is not a number."
            raise DataError(problem, "Write 1 for a relevant document.", source=path, line=number)
        for kind, identifier, known in (("query", query, queries), ("document", document, documents)):
            if identifier not in known:
                problem = f"The {kind} {identifier!r} is unknown.{suggest(identifier, known)}"
                file = "queries.jsonl" if kind == "query" else "corpus.jsonl"
                raise DataError(problem, f"Add it to {file}, or remove the line.", source=path, line=number)
        if judged.setdefault(query, {}).setdefault(document, grade) != grade:
            problem = f"Query {query!r} and document {document!r} were judged otherwise above."
            raise DataError(problem, "Keep one of the judgements.", source=path, line=number)
    relevant = {query: {d: g for d, g in found.items() if g > 0} for query, found in judged.items()}
    relevant = {query: found for query, found in relevant.items() if found}
    if not relevant:
        raise DataError("No document is relevant for any query.", "Add lines with a score above 0.", source=path)
    return relevant


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
