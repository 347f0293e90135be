"""Finding the ends of sentences."""

from __future__ import annotations

import re

_END = re.compile(
    r"""\n+                                     # a line break
    | [.!?…]+ ["'”’»)\]]* (?=\s)                # a mark, optional closing quotes or brackets, and a space
    | [。！？।॥؟۔]+ [」』”’»）)\]]*               # marks of scripts that need no space after them
    """,  # noqa: RUF001 (they are meant)
    re.VERBOSE,
)

_SHORTENED = """
mr mrs ms dr prof sr jr st gen col lt sgt capt rev hon gov sen rep pres messrs vs viz cf al approx ca resp no nos vol
vols fig figs eq eqs sec secs ch chap pp para art ref refs ed eds tab app sect inc ltd co corp llc plc dept univ est
min max avg jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun usw bzw nr abs str evtl ggf
inkl vgl
"""

_ABBREVIATIONS = frozenset(_SHORTENED.split())
"""Abbreviations: a full stop after them does not end a sentence; English, and some German."""

_LAST_WORD = re.compile(r"[^\s(\[\"'“‘«]+$")  # noqa: RUF001 (they are meant)


def sentences(text: str) -> list[tuple[int, int]]:
    """Return start and end of the sentences of ``text`` in order; only space is between them.

    A full stop does not end a sentence after an abbreviation, an initial (``J.``), a word with stops inside
    (``e.g.``, ``U.S.``) or the number of an item, or before a lower-case letter. A line break always ends a sentence.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        mark, end = match.group(), match.end()
        if mark.startswith((".", "!", "?", "…")) and not _ends(text, start, match.start(), end, mark):
            continue
        _add(spans, text, start, end)
        start = end
    _add(spans, text, start, len(text))
    return spans


def _ends(text: str, start: int, stop: int, end: int, mark: str) -> bool:
    """Return whether the mark at ``stop`` ends the sentence that began at ``start``."""
    following = text[end:].lstrip()[:1]
    if following.islower():
        return False
    if mark[0] != "." or len(mark.rstrip("\"'”’»)]")) > 1:  # noqa: RUF001 (they are meant)
        return True
    found = _LAST_WORD.search(text, start, stop)
    word = found.group().casefold() if found else ""
    if word.isdigit():
        return found is None or bool(text[start : found.start()].strip())  # not "1." before an item
    return not (word in _ABBREVIATIONS or "." in word or (len(word) == 1 and word.isalpha()))


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Add the span without the space around it, unless it is empty."""
    part = text[start:end]
    if part.strip():
        spans.append((start + len(part) - len(part.lstrip()), start + len(part.rstrip())))
