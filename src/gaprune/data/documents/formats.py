"""Reading Markdown, HTML and PDF: prose with its headings, without code, tables, navigation and markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gaprune.errors import DataError, require_extra

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)

_LEFT_OUT = {
    "script", "style", "svg", "template", "noscript", "nav", "header", "footer", "aside", "table", "pre",
    "button", "label", "select", "textarea",
}  # fmt: skip
"""Elements whose text is not prose of the document; of a form, which may hold a whole page, these are the controls."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = {"p", "li", "dd", "dt", "blockquote", "div", "section", "article", "main", "body", "figcaption", "br"}
"""Elements that end the paragraph before them."""

_HYPHEN = re.compile(r"(\w)-\n(\w)")
"""A word that is divided at the end of a line."""

_PARAGRAPH = re.compile(r"\n\s*\n|(?<=[.!?:])\n(?=[A-Z])")
"""The end of a paragraph: an empty line, or a sentence that ends with its line before a capital letter."""


class Block(NamedTuple):
    """A heading or a paragraph: its line, the level of the heading (0 for a paragraph) and its text."""

    line: int
    level: int
    text: str


def read_markdown(text: str) -> tuple[str, list[Block]]:
    """Return the title (or an empty text), and headings and paragraphs in order.

    The title is that of the front matter, or the only heading of the first level if the text begins with it. The
    items of a list are the lines of one paragraph. Code, tables, HTML and pictures are left out.
    """
    from markdown_it import MarkdownIt

    front = _FRONT.match(text)
    title = ""
    if front is not None:
        named = _TITLE.search(front.group(1))
        title = named.group(2) if named else ""
        text = "\n" * front.group().count("\n") + text[front.end() :]
    blocks = list(_blocks(MarkdownIt("commonmark").enable("table").parse(text)))
    if not title and blocks and blocks[0].level == 1 and sum(block.level == 1 for block in blocks) == 1:
        return blocks[0].text, blocks[1:]
    return title, blocks


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    level = tables = lists = 0
    items: list[Block] = []
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            level = int(token.tag[1:]) if token.nesting > 0 else 0
        elif token.type in ("table_open", "table_close"):
            tables += token.nesting
        elif token.tag in ("ul", "ol"):
            lists += token.nesting
            if not lists and items:
                yield Block(items[0].line, 0, "\n".join(item.text for item in items))
                items = []
        elif token.type == "inline" and not tables and (prose := _prose(token)):
            block = Block(token.map[0] + 1 if token.map else 1, level, prose)
            if lists and not level:
                items.append(block)
            else:
                yield block


def _prose(token: Token) -> str:
    """Return the words of a paragraph in one line."""
    parts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return " ".join("".join(parts).split())


def read_html(text: str) -> tuple[str, list[Block]]:
    """Return the title (or an empty text), and headings and paragraphs in order.

    The title is that of the ``title`` element, or the only heading of the first level if the text begins with it.
    """
    parser = _Reader()
    parser.feed(text)
    parser.close()
    parser.end_block()
    blocks, title = parser.blocks, " ".join(parser.title.split())
    if blocks and blocks[0].level == 1 and sum(block.level == 1 for block in blocks) == 1:
        return title or blocks[0].text, blocks[1:]
    return title, blocks


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.blocks: list[Block] = []
        self._left_out: list[str] = []
        self._in_title = False
        self._level = 0
        self._line = 1
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _LEFT_OUT:
            self.end_block()
            self._left_out.append(tag)
        elif tag == "title":
            self._in_title = not self._left_out
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self.end_block()
            self._level = _HEADINGS.get(tag, 0)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._left_out:
            del self._left_out[self._left_out.index(tag) :]  # elements that were never closed end with it
        elif tag == "title":
            self._in_title = False
        elif tag in _HEADINGS or tag in _PARAGRAPHS:
            self.end_block()
            self._level = 0

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._left_out:
            if not self._words:
                self._line = self.getpos()[0]
            self._words.append(data)

    def end_block(self) -> None:
        """Keep the heading or paragraph that was read."""
        text = " ".join("".join(self._words).split())
        if text:
            self.blocks.append(Block(self._line, self._level, text))
        self._words = []


def read_pdf(path: Path) -> tuple[str, list[Block]]:
    """Return the title (or an empty text) and the paragraphs; the line of a paragraph is the number of its page.

    Raises:
        MissingExtraError: If pypdf is not installed.
        DataError: If the file cannot be read, is encrypted, or holds no text (a scan).
    """
    require_extra("reading PDF", "pdf", "pypdf")
    from pypdf import PdfReader

    try:
        reader = PdfReader(path)
        is_readable = not reader.is_encrypted
        title = str((is_readable and reader.metadata and reader.metadata.title) or "")
        pages = [page.extract_text() for page in reader.pages] if is_readable else []
    except Exception as error:  # of a damaged file pypdf raises errors of many kinds
        raise DataError(
            f"cannot be read as PDF: {error}", "Save it again without a password, or convert it to text.", source=path
        ) from error
    if not is_readable:
        raise DataError("is encrypted.", "Save it without a password.", source=path)
    blocks = [
        Block(number, 0, " ".join(paragraph.split()))
        for number, page in enumerate(pages, start=1)
        for paragraph in _PARAGRAPH.split(_HYPHEN.sub(r"\1\2", page))
        if paragraph.strip()
    ]
    if not blocks:
        raise DataError("holds no text; it may be a scan.", "Recognise its text first (OCR).", source=path)
    return " ".join(title.split()), blocks
