"""Markdown tables, and sections of a file that can be written again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are aligned right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def put_section(card: str, name: str, content: str) -> str:
    """Return ``card`` with ``content`` as its section ``name``, which stands between two marks, or else at the end."""
    start, end = f"<!-- gaprune {name} -->", f"<!-- end of gaprune {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    before, found, rest = card.partition(start)
    if found and end in rest:
        return before + section + rest.partition(end)[2]
    return f"{card.rstrip()}\n\n{section}\n"
