"""Reading HTML: prose with its headings, without scripts, navigation, tables and code."""

from __future__ import annotations

from html.parser import HTMLParser

from gaprune.data.documents.markdown import Block

_LEFT_OUT = {"script", "style", "template", "noscript", "nav", "header", "footer", "aside", "table", "pre", "form"}
"""Elements whose text is not prose of the document."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = {"p", "li", "dd", "dt", "blockquote", "div", "section", "article", "main", "body", "figcaption", "br"}
"""Elements that end the paragraph before them."""


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
            self._in_title = True
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
