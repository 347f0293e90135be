"""Reading Markdown: prose with its headings, without code, tables and markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)


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
