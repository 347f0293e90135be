"""Passages: documents cut into texts of a length that models read and searches find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from gaprune.data.documents import Document, Paragraph
from gaprune.data.sentences import sentences
from gaprune.data.words import words

__all__ = ["Passage", "Passages", "cut"]

_RUN = 8
"""Words of a run; texts with the same runs say the same."""

_SAME = 0.5
"""A passage with more than this share of its runs in earlier passages is a near-duplicate."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    Args:
        text: Its text, whole sentences.
        sentences: Where its sentences start and end.
        document: Position of its document.
        section: Number of the heading it stands under, in the document.
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


@dataclass(frozen=True, slots=True)
class Passages:
    """The passages of a collection.

    Args:
        items: The passages, in the order of the documents.
        dropped: Numbers of what was left out, by reason.
    """

    items: tuple[Passage, ...]
    dropped: Counter[str] = field(default_factory=Counter)


def cut(documents: Sequence[Document], *, shortest: int, longest: int) -> Passages:
    """Return the passages of ``documents``: paragraphs, short ones joined to the next, long ones cut at a sentence.

    Passages do not run over a heading. Left out are those that stay too short or have one sentence that is too long,
    and near-duplicates: those with more than half of their eight-word runs in passages before them.

    Args:
        documents: The documents.
        shortest: Words that a passage has at least.
        longest: Words that a passage has at most.
    """
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    items: list[Passage] = []
    for number, document in enumerate(documents):
        if not document.paragraphs:
            dropped["document: empty"] += 1
        for section, paragraphs in groupby(document.paragraphs, key=lambda paragraph: paragraph.section):
            group = list(paragraphs)
            for position, (text, line) in enumerate(_pieces(group, shortest, longest)):
                of_text = words(text)
                reason = _unfit(of_text, seen, shortest, longest)
                if reason is None:
                    place = f"{document.file}:{line}"
                    spans = tuple(sentences(text))
                    items.append(Passage(text, spans, number, section, group[0].heading, place, not position))
                else:
                    dropped[f"passage: {reason}"] += 1
    return Passages(tuple(items), dropped)


def _unfit(of_text: Sequence[str], seen: set[tuple[str, ...]], shortest: int, longest: int) -> str | None:
    """Return why a text is no passage."""
    if len(of_text) < shortest:
        return "too short"
    if len(of_text) > longest:
        return "one sentence is too long"
    return "near-duplicate of an earlier one" if _is_known(of_text, seen) else None


def _pieces(paragraphs: Iterable[Paragraph], shortest: int, longest: int) -> Iterator[tuple[str, int]]:
    """Yield texts of a section and the lines they begin on: as few paragraphs each as make it long enough."""
    held: list[str] = []
    first = length = 0
    for paragraph in paragraphs:
        for part in _parts(paragraph.text, longest):
            size = len(words(part))
            if held and length + size > longest:
                yield "\n".join(held), first
                held, length = [], 0
            first = first if held else paragraph.line
            held.append(part)
            length += size
            if length >= shortest:
                yield "\n".join(held), first
                held, length = [], 0
    if held:
        yield "\n".join(held), first


def _parts(text: str, longest: int) -> Iterator[str]:
    """Yield ``text`` whole, or where it is too long its sentences in parts of about one length."""
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


def _is_known(of_text: Sequence[str], seen: set[tuple[str, ...]]) -> bool:
    """Return whether most runs of words stood in earlier texts; if not, remember them."""
    runs = {tuple(of_text[start : start + _RUN]) for start in range(max(1, len(of_text) - _RUN + 1))}
    if len(runs & seen) > _SAME * len(runs):
        return True
    seen |= runs
    return False
