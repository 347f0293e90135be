"""Queries, documents and judgements in files of their own, as BEIR, MS MARCO and TREC publish them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gaprune.errors import DataError, suggest
from gaprune.util.json_lines import Record, read_json_lines
from gaprune.util.text_files import COMPRESSED, format_of, read_lines

_CORPUS = ("corpus.jsonl", "collection.tsv")
_FEW = 100_000
"""Up to so many names, near ones are looked for."""


@dataclass(frozen=True, slots=True)
class JudgedFiles:
    """The files of a data set: documents, queries, and the judgements of one split."""

    documents: Path
    queries: Path
    judgements: Path


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What the files of a data set hold.

    Args:
        queries: Text of each query that has a relevant document, by id.
        documents: Title and text of each document by id; a few of published data sets are empty.
        grades: Grade above 0 of each relevant document, by query and document.
        rows: Line of each judgement, by query and document.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    grades: dict[str, dict[str, float]]
    rows: dict[tuple[str, str], Record]


def is_judged(folder: Path) -> bool:
    """Return whether a folder holds a corpus in the layout of BEIR or of MS MARCO."""
    return _first(folder, _CORPUS) is not None


def corpora_alone(files: Collection[Path]) -> list[Path]:
    """Return ``files`` without those that stand beside a corpus of theirs: queries are no documents."""
    corpora = {folder: _first(folder, _CORPUS) for folder in {file.parent for file in files}}
    return [file for file in files if corpora[file.parent] not in files or corpora[file.parent] == file]


def find_judged(folder: Path, split: str) -> JudgedFiles:
    """Return ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``, or what MS MARCO calls them.

    Raises:
        DataError: If one is missing.
    """
    found = []
    judgements = (f"qrels/{split}.tsv", f"qrels.{split}.tsv")
    for names in (_CORPUS, ("queries.jsonl", f"queries.{split}.tsv", "queries.tsv"), judgements):
        file = _first(folder, names)
        if file is None:
            others = sorted(path.name for path in (*folder.glob("qrels/*"), *folder.glob("qrels.*")))
            hint = f" There are judgements in {', '.join(others)}." if names is judgements and others else ""
            if hint and split == "train":
                name = others[0].removeprefix("qrels.").removesuffix(".gz").removesuffix(".tsv")
                raise DataError(
                    f"{names[0]} is missing: there are no judgements to learn from.{hint}",
                    f"If no task of yours judges by these, read them with --set split={name} (split=...). Otherwise "
                    "learn from the documents (gaprune data from-texts FOLDER/corpus.jsonl --out mine.jsonl) and "
                    "judge by this folder (--tasks).",
                    source=folder,
                )
            raise DataError(
                f"the file {names[0]}, which a retrieval task needs, is missing.{hint}",
                "Give the folder corpus.jsonl, queries.jsonl and qrels/test.tsv; for triplets qrels/train.tsv, or "
                "name another split (split=...).",
                source=folder,
            )
        found.append(file)
    return JudgedFiles(*found)


def read_judged(files: JudgedFiles, *, only_judged: bool = False) -> Retrieval:
    """Read queries, documents and judgements; queries without a grade above 0 are left out.

    Args:
        files: The files.
        only_judged: Keep the judged documents alone, of a collection of millions.

    Raises:
        DataError: If a line cannot be used, or no document is relevant.
    """
    grades: dict[tuple[str, str], float] = {}
    rows: dict[tuple[str, str], Record] = {}
    for row, query, document, grade in _judgements(files.judgements):
        if grades.setdefault((query, document), grade) != grade:
            problem = f"query {query!r} and document {document!r} have another score above."
            raise row.error(problem, "Keep one of the judgements.")
        rows.setdefault((query, document), row)
    queries = _texts(files.queries)
    judged = {document for _, document in grades} if only_judged else None
    documents = _texts(files.documents, judged, is_corpus=True)
    relevant: dict[str, dict[str, float]] = {}
    for (query, document), grade in grades.items():
        _require(rows[query, document], "query", query, queries, files.queries)
        _require(rows[query, document], "document", document, documents, files.documents)
        if grade > 0:
            relevant.setdefault(query, {})[document] = grade
    if not relevant:
        remedy = "Add lines with a score above 0."
        raise DataError("no document is relevant to any query.", remedy, source=files.judgements)
    return Retrieval({query: text for query, text in queries.items() if query in relevant}, documents, relevant, rows)


def read_pairs(files: JudgedFiles) -> Iterator[Record]:
    """Yield every query with every relevant document, at the line of its judgement.

    Raises:
        DataError: As :func:`read_judged`.
    """
    found = read_judged(files, only_judged=True)
    for query, text in found.queries.items():
        for document in found.grades[query]:
            row = found.rows[query, document]
            if not found.documents[document]:
                problem = f"the document {document!r}, which this line calls relevant, is empty."
                raise row.error(problem, f"Fill it in {files.documents.name}, or remove the line.")
            yield Record(row.file, row.number, {"query": text, "positive": found.documents[document]})


def _first(folder: Path, names: Collection[str]) -> Path | None:
    files = (folder / f"{name}{ending}" for name in names for ending in ("", *COMPRESSED))
    return next(filter(Path.is_file, files), None)


def _require(row: Record, kind: str, identifier: str, known: Collection[str], file: Path) -> None:
    if identifier not in known:
        near = suggest(identifier, known) if len(known) <= _FEW else ""
        remedy = f"Add it to {file.name}, or remove the line."
        raise row.error(f"the {kind} {identifier!r} is unknown.{near}", remedy)


def _texts(path: Path, wanted: Collection[str] | None = None, *, is_corpus: bool = False) -> dict[str, str]:
    """Return texts by id, all or the ``wanted`` ones."""
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    record = None
    for record in read_json_lines(path) if format_of(path) == ".jsonl" else _rows_of_two(path):
        identifier = record.require("_id", "text").identifier("_id")
        if wanted is not None and identifier not in wanted:
            continue
        if identifier in lines:
            raise record.error(
                f"the id {identifier!r} was already used in line {lines[identifier]}.", "Give every line its own _id."
            )
        if is_corpus:
            title = record.check_text("title", record.fields.get("title") or "", may_be_empty=True)
            text = record.check_text("text", record.field("text"), may_be_empty=True)
            texts[identifier] = f"{title} {text}".strip()
        else:
            texts[identifier] = record.text("text")
        lines[identifier] = record.number
    if record is None:
        raise DataError("the file is empty.", "Write one JSON object per line, or remove the task.", source=path)
    return texts


def _rows_of_two(path: Path) -> Iterator[Record]:
    for number, line in read_lines(path):
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != 2:
            problem = f"has {len(cells)} columns separated by tabs, not 2."
            raise Record(path, number, {}).error(problem, "Write the id, a tab and the text.")
        yield Record(path, number, {"_id": cells[0].strip(), "text": cells[1].strip()})


def _judgements(path: Path) -> Iterator[tuple[Record, str, str, float]]:
    """Yield the line, query, document and grade of each judgement: three columns, or the four of TREC."""
    for number, line in read_lines(path):
        row = Record(path, number, {})
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if not line.strip():
            continue
        if len(cells) not in (3, 4):
            raise row.error(
                f"has {len(cells)} columns, not 3.",
                "Write query-id, corpus-id, score, with tabs between (or TREC's query-id, 0, corpus-id, score).",
            )
        grade = _number(cells[-1])
        if number > 1 and grade is None:
            raise row.error(f"the score {cells[-1]!r} is not a number.", "Write 1 for a relevant document.")
        if number == 1 and grade is not None and len(cells) == 3:
            raise row.error("the header is missing.", "Write query-id, corpus-id and score in the first line.")
        if grade is not None:
            yield row, cells[0], cells[-2], grade


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
