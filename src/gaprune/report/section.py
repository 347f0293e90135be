"""A section of a model card that can be written again: it stands between two marks."""

from __future__ import annotations

__all__ = ["put_section"]


def put_section(card: str, name: str, content: str) -> str:
    """Return ``card`` with ``content`` as its section ``name``, in place of an earlier one or else at the end."""
    start, end = f"<!-- gaprune {name} -->", f"<!-- end of gaprune {name} -->"
    section = f"{start}\n{content.strip()}\n{end}"
    before, found, rest = card.partition(start)
    if found and end in rest:
        return before + section + rest.partition(end)[2]
    return f"{card.rstrip()}\n\n{section}\n"
