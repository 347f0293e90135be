"""Reading Markdown: what is said under which heading, without code, tables and markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["Block", "markdown_blocks"]

Block = tuple[int, int, str]
"""Line, level of the heading (0 for a paragraph), text."""

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)


def markdown_blocks(text: str) -> tuple[str, list[Block]]:
    """Return the title that the front matter gives (or an empty text), and headings and paragraphs in their order.

    The items of a list are the lines of one paragraph. Code, tables, HTML and pictures are left out, as they are no
    prose.
    """
    from markdown_it import MarkdownIt

    front = _FRONT.match(text)
    title = ""
    if front is not None:
        named = _TITLE.search(front.group(1))
        title = named.group(2) if named else ""
        text = "\n" * front.group().count("\n") + text[front.end() :]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return title, list(_blocks(tokens))


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
                yield items[0][0], 0, "\n".join(text for _, _, text in items)
                items = []
        elif token.type == "inline" and not tables and (prose := _prose(token)):
            block = _line(token), level, prose
            if lists and not level:
                items.append(block)
            else:
                yield block


def _line(token: Token) -> int:
    """Return the line where a block begins, from 1."""
    return token.map[0] + 1 if token.map else 1


def _prose(token: Token) -> str:
    """Return the words of a paragraph, in one line."""
    parts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return " ".join("".join(parts).split())
