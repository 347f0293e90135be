"""Reading documents: plain texts, Markdown, HTML, PDF, and JSONL such as the corpus.jsonl of BEIR."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gaprune.config.data import DomainReading
from gaprune.data.documents.formats import Block, read_html, read_markdown, read_pdf
from gaprune.data.read import TRIPLET_SUFFIXES
from gaprune.data.readers.columns import NAMES
from gaprune.data.readers.files import files_of, say_unread
from gaprune.data.readers.json_files import read_jsonl
from gaprune.data.readers.judged import corpora_alone, is_judged
from gaprune.data.words import words
from gaprune.errors import ConfigError, DataError
from gaprune.util.json_lines import Record, read_json_lines
from gaprune.util.progress import say
from gaprune.util.text_files import format_of, read_text

_LONGEST_TITLE = 15
"""Maximum number of words of a title in plain text."""

_SENTENCE_ENDS = (".", "!", "?", ":", ";", ",", "…", "。", "！", "？")  # noqa: RUF001 (they are meant)
_IDS = ("_id", "id", "doc_id")
_ABOUT = ("README.md", "README.txt")
"""Files that say what a folder of triplets holds, as a clone of a data set has one."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph and the heading above it.

    Args:
        text: Its text; line breaks separate the items of a list.
        heading: The nearest heading above it, empty for none.
        section: Number of that heading in the document, 0 before the first.
        line: Line where it begins.
    """

    text: str
    heading: str
    section: int
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a title.

    Args:
        id: Its name in a file of queries: ``_id`` of a JSONL line, otherwise the file's path in its folder.
        title: Its title, empty for none.
        paragraphs: Its paragraphs in order; none for an empty text.
        file: Its file.
        line: Line where it begins.
    """

    id: str
    title: str
    paragraphs: tuple[Paragraph, ...]
    file: Path
    line: int = 1


def read_documents(source: str | Path) -> list[Document]:
    """Read documents from a file, or from all files in a folder and its subfolders.

    A plain text is one document: blank lines separate its paragraphs, and a short first paragraph that does not end
    like a sentence is its title. In Markdown, headings are read too; the title is the title of the front matter, or
    the only heading of the first level if the text begins with it. In HTML, headings and the title are read, and
    navigation, tables and code are left out. In PDF the lines of paragraphs are their pages. In JSONL every line is a
    document. Of a folder in the layout of BEIR, ``corpus.jsonl`` alone is read.

    Args:
        source: A file (.txt, .md, .markdown, .html, .htm, .pdf, .jsonl) or a folder; hidden files are ignored, and how
            many files have other formats is said.

    Returns:
        The documents in the order of the files' names, empty ones included.

    Raises:
        DataError: If there is no document, a text cannot be read, or two documents have the same id.
    """
    folder = Path(source).expanduser()
    documents: dict[str, Document] = {}
    for path in document_files(folder, kind="document"):
        name = path.relative_to(folder).as_posix() if folder.is_dir() else path.name
        for document in _READERS[format_of(path)](path, name):
            if other := documents.get(document.id):
                raise DataError(
                    f"has the id {document.id!r}, as has {other.file}:{other.line}.",
                    "Give every document an id of its own, or none.",
                    source=path,
                    line=document.line,
                )
            documents[document.id] = document
    return list(documents.values())


def document_files(source: Path, *, kind: str) -> list[Path]:
    """Return the files to read documents from, and say which of a folder are left out.

    Args:
        source: A file, or a folder of which all subfolders count.
        kind: What an error calls the documents.

    Raises:
        DataError: If there is none.
    """
    files = files_of(source, DOCUMENT_SUFFIXES, kind=kind, recursive=True)
    if source.is_file():
        return files
    say_unread(source, DOCUMENT_SUFFIXES)
    kept = corpora_alone(files)
    if left := [file.relative_to(source).as_posix() for file in files if file not in kept]:
        say(f"{source}: of a retrieval task its documents alone are read; left out: {', '.join(left)}.")
    return kept


def _read_plain(path: Path, name: str) -> Iterator[Document]:
    blocks = _paragraphs(read_text(path))
    first = blocks[0].text if blocks else ""
    titled = len(blocks) > 1 and not first.endswith(_SENTENCE_ENDS) and len(words(first)) <= _LONGEST_TITLE
    yield _document(name, first if titled else "", blocks[1:] if titled else blocks, path)


def _read_formatted(path: Path, name: str) -> Iterator[Document]:
    ending = format_of(path)
    if ending == ".pdf":
        title, blocks = read_pdf(path)
    else:
        read = read_html if ending in (".html", ".htm") else read_markdown
        title, blocks = read(_with_newlines(read_text(path)))
    yield _document(name, title, blocks, path)


def _read_json_lines(path: Path, name: str) -> Iterator[Document]:
    for record in read_json_lines(path):
        text, title = _text(record, "text"), _text(record, "title") if "title" in record.fields else ""
        paragraphs = tuple(Paragraph(block.text, "", 0, record.number) for block in _paragraphs(text))
        ids = (str(value) for field in _IDS if isinstance(value := record.fields.get(field), str | int))
        identifier = next(ids, f"{name}:{record.number}")
        yield Document(identifier, " ".join(title.split()), paragraphs, path, record.number)


_READERS: dict[str, Callable[[Path, str], Iterator[Document]]] = {
    ".txt": _read_plain,
    **dict.fromkeys((".md", ".markdown", ".html", ".htm", ".pdf"), _read_formatted),
    ".jsonl": _read_json_lines,
}

DOCUMENT_SUFFIXES = tuple(_READERS)
"""Endings of the names of files that hold documents."""


def _text(record: Record, column: str) -> str:
    """Return a text, which may be empty: empty documents are counted in the report."""
    value = record.field(column)
    return "" if value is None else record.check_text(column, value, may_be_empty=True)


def _with_newlines(text: str) -> str:
    return re.sub("\r\n?", "\n", text)


def _paragraphs(text: str) -> list[Block]:
    """Return the paragraphs separated by blank lines, each with its lines joined."""
    lines = list(enumerate(_with_newlines(text).split("\n"), start=1))
    blocks: list[Block] = []
    gap = True
    for number, line in lines:
        joined = " ".join(line.split())
        if joined and gap:
            blocks.append(Block(number, 0, joined))
        elif joined:
            blocks[-1] = blocks[-1]._replace(text=f"{blocks[-1].text} {joined}")
        gap = not joined
    return blocks


def _document(name: str, title: str, blocks: Iterable[Block], path: Path) -> Document:
    paragraphs: list[Paragraph] = []
    heading, section = "", 0
    for block in blocks:
        if block.level:
            heading, section = block.text, section + 1
        else:
            paragraphs.append(Paragraph(block.text, heading, section, block.line))
    return Document(name, title, tuple(paragraphs), path)


def holds_documents(source: str | Path, columns: Collection[str] = ()) -> bool:
    """Return whether ``source`` holds documents from which triplets have to be made, not triplets.

    Files that hold neither, such as images, do not count, nor does the README of a folder of triplets. A ``.jsonl``
    file holds documents if its first object has a text, unless it has a query, or ``columns`` are mapped. A folder in
    the layout of BEIR holds triplets if it has judgements, and so does a name that is no file and no folder: it is a
    data set on the hub.

    Raises:
        DataError: If a folder holds both.
    """
    path = Path(source).expanduser()
    if not path.exists() or (path.is_dir() and is_judged(path) and any(path.glob("qrels*"))):
        return False
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if _counts(each, path))
    kinds = {_is_document(each, columns): each for each in files}
    if len(kinds) > 1:
        kinds = {_is_document(each, columns): each for each in files if each.name not in _ABOUT}
    if len(kinds) > 1:
        raise DataError(
            f"holds both documents ({kinds[True].name}) and triplets ({kinds[False].name}).",
            "Put them into folders of their own, and name one of them.",
            source=path,
        )
    return next(iter(kinds), False)


def refuse_reading(source: str | Path, asked: DomainReading) -> None:
    """Refuse options that say how triplets are read, because ``source`` holds documents.

    Raises:
        ConfigError: If there is one.
    """
    for option in DomainReading.model_fields:
        if getattr(asked, option):
            remedy = "Leave it out; for a table that holds triplets name the file, such as .csv or .parquet."
            raise ConfigError(f"{option}: {source} holds documents, so this has no effect.", remedy)


def _counts(path: Path, folder: Path) -> bool:
    known = {*DOCUMENT_SUFFIXES, *TRIPLET_SUFFIXES}
    return (
        path.is_file()
        and format_of(path) in known
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _is_document(path: Path, columns: Collection[str]) -> bool:
    if format_of(path) == ".jsonl":
        first = next(iter(read_jsonl(path)), None)
        names = {name.strip().lower() for name in first.fields} if first is not None else set()
        return "text" in names and not columns and not names & set(NAMES["query"])
    return format_of(path) in DOCUMENT_SUFFIXES
