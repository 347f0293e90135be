"""Reading documents: plain texts, Markdown, and JSONL such as BEIR's corpus.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gaprune.data.json_files import read_jsonl
from gaprune.data.markdown_files import Block, markdown_blocks
from gaprune.data.records import Record, read_text
from gaprune.data.words import words
from gaprune.errors import DataError, suggest

__all__ = ["Document", "Paragraph", "read_documents"]

_LONGEST_TITLE = 15
"""Words of a first line in plain text that can be a title."""

_SENTENCE_ENDS = (".", "!", "?", ":", ";", ",", "…", "。", "！", "？")  # noqa: RUF001 (they are meant)
_IDS = ("_id", "id", "doc_id")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph and the heading it stands under.

    Args:
        text: Its text; a line break parts the items of a list.
        heading: The nearest heading above it, empty for none.
        section: Number of that heading in the document, 0 before the first.
        line: Where it begins.
    """

    text: str
    heading: str
    section: int
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a title.

    Args:
        id: What it is called in a file of queries: ``_id`` of a JSONL line, else the file's path in its folder.
        title: Its title, empty for none.
        paragraphs: Its paragraphs in their order; none for an empty text.
        file: The file it stands in.
        line: Where it begins.
    """

    id: str
    title: str
    paragraphs: tuple[Paragraph, ...]
    file: str
    line: int = 1


def _plain_file(path: Path, name: str) -> Iterator[Document]:
    blocks = _paragraphs(read_text(path))
    first = blocks[0][2] if blocks else ""
    titled = len(blocks) > 1 and not first.endswith(_SENTENCE_ENDS)
    titled = titled and len(words(first)) <= _LONGEST_TITLE
    yield _document(name, first if titled else "", blocks[1:] if titled else blocks, path)


def _paragraphs(text: str) -> list[Block]:
    """Return what blank lines part, as blocks with their lines joined."""
    blocks: list[Block] = []
    first, lines = 1, list[str]()
    for number, line in enumerate([*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""], start=1):
        if line.strip():
            first = number if not lines else first
            lines.append(" ".join(line.split()))
        elif lines:
            blocks.append((first, 0, " ".join(lines)))
            lines = []
    return blocks


def _markdown_file(path: Path, name: str) -> Iterator[Document]:
    title, blocks = markdown_blocks(read_text(path).replace("\r\n", "\n").replace("\r", "\n"))
    if not title and blocks and blocks[0][1] == 1 and sum(level == 1 for _, level, _ in blocks) == 1:
        title, blocks = blocks[0][2], blocks[1:]
    yield _document(name, title, blocks, path)


def _document(name: str, title: str, blocks: Iterable[Block], path: Path) -> Document:
    paragraphs: list[Paragraph] = []
    heading, section = "", 0
    for line, level, text in blocks:
        if level:
            heading, section = text, section + 1
        else:
            paragraphs.append(Paragraph(text, heading, section, line))
    return Document(name, title, tuple(paragraphs), str(path))


def _jsonl_file(path: Path, name: str) -> Iterator[Document]:
    for record in read_jsonl(path):
        text, title = _field(record, "text"), _field(record, "title") if "title" in record.fields else ""
        paragraphs = tuple(Paragraph(part, "", 0, record.number) for _, _, part in _paragraphs(text))
        yield Document(_id(record, name), " ".join(title.split()), paragraphs, str(path), record.number)


def _field(record: Record, name: str) -> str:
    """Return a text of the record, which may be empty: the report counts empty documents."""
    if name not in record.fields:
        listed = ", ".join(map(repr, record.fields)) or "none"
        raise record.error(
            f"has no field {name!r}; its fields are {listed}.{suggest(name, record.fields)}",
            'Write every document as {"_id": ..., "title": ..., "text": ...}; "_id" and "title" may be left out.',
        )
    value = record.fields[name]
    return "" if value is None else record.text(name, value, may_be_empty=True)


def _id(record: Record, name: str) -> str:
    for field in _IDS:
        if isinstance(value := record.fields.get(field), str | int):
            return str(value)
    return f"{name}:{record.number}"


_READERS: dict[str, Callable[[Path, str], Iterator[Document]]] = {
    ".txt": _plain_file,
    ".md": _markdown_file,
    ".markdown": _markdown_file,
    ".jsonl": _jsonl_file,
}
_FORMATS = ", ".join(_READERS)


def _files(source: Path) -> list[tuple[Path, str]]:
    """Return the files to read, with their names among them."""
    if not source.exists():
        near = suggest(source.name, (e.name for e in source.parent.iterdir())) if source.parent.is_dir() else ""
        raise DataError(f"does not exist.{near}", f"Give a file ({_FORMATS}) or a folder of them.", source=source)
    if source.is_file():
        if source.suffix.lower() not in _READERS:
            raise DataError(
                f"the ending {source.suffix!r} is no format of documents.", f"Use one of {_FORMATS}.", source=source
            )
        return [(source, source.name)]
    found = [(path, path.relative_to(source)) for path in sorted(source.rglob("*"))]
    files = [
        (path, inside.as_posix())
        for path, inside in found
        if path.suffix.lower() in _READERS
        and path.is_file()
        and not any(part.startswith(".") for part in inside.parts)
    ]
    if not files:
        raise DataError("the folder holds no document.", f"Put files ({_FORMATS}) into it.", source=source)
    return files


def read_documents(source: str | Path) -> list[Document]:
    """Read documents from a file or from all files in a folder and the folders in it.

    Plain text is one document: blank lines part its paragraphs, and a short first paragraph that ends in no mark of a
    sentence is its title. In Markdown headings are read too; its title is that of the front matter, or its one
    heading of the first level if it begins with that. A line of JSONL is a document.

    Args:
        source: A file (.txt, .md, .markdown, .jsonl) or a folder; hidden files are left out.

    Returns:
        The documents in the order of the files' names; empty ones too.

    Raises:
        DataError: If there is no document, a text cannot be read, or two documents have the same id; with file and
            line.
    """
    documents: list[Document] = []
    places: dict[str, str] = {}
    for path, name in _files(Path(source).expanduser()):
        for document in _READERS[path.suffix.lower()](path, name):
            place = f"{document.file}:{document.line}"
            if document.id in places:
                raise DataError(
                    f"has the id {document.id!r}, as {places[document.id]} has.",
                    "Give every document an id of its own, or none.",
                    source=document.file,
                    line=document.line,
                )
            places[document.id] = place
            documents.append(document)
    return documents
