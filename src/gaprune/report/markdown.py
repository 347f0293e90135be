"""Markdown tables, and sections of a file that can be written again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_FIGURE = re.compile(r"[-+]?\d")
"""How the cells of a column of numbers begin."""


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first that hold numbers alone are aligned right."""
    content = list(rows)
    columns = [[row[place] for row in content if row[place]] for place in range(1, len(header))]
    rules = ["---:" if cells and all(map(_FIGURE.match, cells)) else "---" for cells in columns]
    lines = [header, ["---", *rules], *content]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def put_section(card: str, name: str, content: str) -> str:
    """Return ``card`` with ``content`` as its section ``name``, which stands between two marks, or else at the end."""
    start, end = f"<!-- gaprune {name} -->", f"<!-- end of gaprune {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    before, found, rest = card.partition(start)
    if found and end in rest:
        return before + section + rest.partition(end)[2]
    return f"{card.rstrip()}\n\n{section}\n"
