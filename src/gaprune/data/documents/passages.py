"""Cutting documents into sentences, and into passages of a length that models read and searches find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gaprune.data.documents.read import Document, Paragraph
from gaprune.data.words import words

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

_RUN = 8
"""Number of words in a run; near-duplicates have runs in common."""

_SAME = 0.5
"""A passage with more than this share of its runs in earlier passages is a near-duplicate."""


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


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    Args:
        text: Its text, in whole sentences.
        sentences: Start and end of each sentence.
        document: Position of its document.
        section: Number of the heading above it, in the document.
        heading: That heading, empty for none.
        source: ``file:line`` where it begins.
        is_first: Whether it is the first of its section.
    """

    text: str
    sentences: tuple[tuple[int, int], ...]
    document: int
    section: int
    heading: str
    source: str
    is_first: bool


def cut(documents: Sequence[Document], *, shortest: int, longest: int) -> tuple[list[Passage], Counter[str]]:
    """Return passages of ``documents``, and the numbers of texts left out by reason.

    Short paragraphs of a section are joined, long ones are cut between sentences. Left out are passages that are
    still too short or consist of one sentence that is too long, and near-duplicates: passages with more than half
    of their eight-word runs in earlier passages.
    """
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    passages: list[Passage] = []
    for number, document in enumerate(documents):
        if not document.paragraphs:
            dropped["document: empty"] += 1
        for section, paragraphs in groupby(document.paragraphs, key=lambda paragraph: paragraph.section):
            group = list(paragraphs)
            for position, (text, line) in enumerate(_pieces(group, shortest, longest)):
                reason = _unfit(words(text), seen, shortest, longest)
                if reason is None:
                    spans, place = tuple(sentences(text)), f"{document.file}:{line}"
                    passages.append(Passage(text, spans, number, section, group[0].heading, place, not position))
                else:
                    dropped[f"passage: {reason}"] += 1
    return passages, dropped


def _unfit(of_text: Sequence[str], seen: set[tuple[str, ...]], shortest: int, longest: int) -> str | None:
    """Return the reason why a text is not a passage; otherwise add its runs of words to ``seen``."""
    if len(of_text) < shortest:
        return "too short"
    if len(of_text) > longest:
        return "one sentence is too long"
    runs = {tuple(of_text[start : start + _RUN]) for start in range(max(1, len(of_text) - _RUN + 1))}
    if len(runs & seen) > _SAME * len(runs):
        return "near-duplicate of an earlier one"
    seen |= runs
    return None


def _pieces(paragraphs: Iterable[Paragraph], shortest: int, longest: int) -> Iterator[tuple[str, int]]:
    """Yield texts of a section and their lines; each joins as few paragraphs as make it long enough."""
    joined: list[str] = []
    first = length = 0
    for paragraph in paragraphs:
        for part in _parts(paragraph.text, longest):
            size = len(words(part))
            if joined and length + size > longest:
                yield "\n".join(joined), first
                joined, length = [], 0
            first = first if joined else paragraph.line
            joined.append(part)
            length += size
            if length >= shortest:
                yield "\n".join(joined), first
                joined, length = [], 0
    if joined:
        yield "\n".join(joined), first


def _parts(text: str, longest: int) -> Iterator[str]:
    """Yield ``text`` whole or, if it is too long, its sentences in parts of about equal length."""
    total = len(words(text))
    if total <= longest:
        yield text
        return
    wanted = total / -(-total // longest)
    spans = sentences(text)
    begin, length = spans[0][0], 0
    for (start, end), (_, before) in zip(spans, [(0, spans[0][0]), *spans], strict=False):
        size = len(words(text[start:end]))
        if length and (length + size > longest or length >= wanted):
            yield text[begin:before]
            begin, length = start, 0
        length += size
    yield text[begin:].strip()
