"""Pairs of a query and its passage, made from the order that authors gave their documents."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from gaprune.data.documents import Document
from gaprune.data.fitness import Judge, points_back
from gaprune.data.normal import normalise
from gaprune.data.passages import Passage
from gaprune.data.words import words

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["KINDS", "Kind", "Pair", "make_pairs"]

Kind = Literal["title", "heading", "sentence", "cloze", "query"]

KINDS: tuple[Kind, ...] = get_args(Kind)[:-1]
"""The kinds that are made; ``query`` is the user's own."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the passage that answers it.

    Args:
        kind: How it was made.
        query: The query.
        positive: The text that answers it.
        whole: The passage that the positive is taken from, which no negative may resemble.
        relevant: Positions of passages that may answer the query too, and so are no negatives.
        source: ``file:line`` of the positive, or of the user's query.
    """

    kind: Kind
    query: str
    positive: str
    whole: str
    relevant: Collection[int]
    source: str


def make_pairs(
    documents: Sequence[Document],
    passages: Sequence[Passage],
    kinds: Iterable[Kind],
    own: Sequence[Pair] = (),
    *,
    shortest: int,
    seed: int,
) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs that are fit to learn from, and how many were left out for which reason.

    Left out are queries that are too short or too long, generic ones (a heading such as "Summary", or no word that
    stands in less than a tenth of the passages), those that stand for several passages, and those that are their
    passage. The user's own queries are not judged.

    Args:
        documents: The documents.
        passages: Their passages.
        kinds: Which kinds to make; ``query`` stands for ``own``.
        own: Pairs of the user's own queries.
        shortest: Words that are left of a passage at least, after its sentence was removed.
        seed: Decides which sentence of a passage is its query.
    """
    makers: dict[Kind, Callable[[], Iterable[list[Pair]]]] = {
        "title": lambda: _titles(documents, passages),
        "heading": lambda: _headings(passages),
        "sentence": lambda: _sentences(passages, seed),
        "cloze": lambda: _clozes(passages, shortest, seed),
    }
    judge = Judge(passages)
    dropped: Counter[str] = Counter()
    kept: list[Pair] = []
    for kind in kinds:
        if kind == "query":
            kept += own
            continue
        for alternatives in makers[kind]():
            reasons = [judge.unfit(pair.kind, pair.query, pair.positive) for pair in alternatives]
            if None in reasons:
                kept.append(alternatives[reasons.index(None)])
            else:
                dropped[f"{kind}: {reasons[0] if reasons else 'no two sentences to part'}"] += 1
    answers = Counter(query for query, _ in {(normalise(pair.query), normalise(pair.whole)) for pair in kept})
    unique = []
    for pair in kept:
        if pair.kind != "query" and answers[normalise(pair.query)] > 1:
            dropped[f"{pair.kind}: the same query for several passages"] += 1
        else:
            unique.append(pair)
    return unique, dropped


def _titles(documents: Sequence[Document], passages: Sequence[Passage]) -> Iterator[list[Pair]]:
    """Yield a document's title and its first passage; all its passages may answer it."""
    members: dict[int, list[int]] = {}
    for index, passage in enumerate(passages):
        members.setdefault(passage.document, []).append(index)
    for number, indices in members.items():
        first = passages[indices[0]]
        if title := documents[number].title:
            relevant = range(indices[0], indices[-1] + 1)
            yield [Pair("title", title, first.text, first.text, relevant, first.source)]


def _headings(passages: Sequence[Passage]) -> Iterator[list[Pair]]:
    """Yield a heading and the first passage under it; all passages under it may answer it."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, passage in enumerate(passages):
        if passage.heading:
            members.setdefault((passage.document, passage.section), []).append(index)
    for indices in members.values():
        first = passages[indices[0]]
        if first.is_first:
            relevant = range(indices[0], indices[-1] + 1)
            yield [Pair("heading", first.heading, first.text, first.text, relevant, first.source)]


def _neighbours(passages: Sequence[Passage], index: int) -> list[int]:
    """Return the passage and those beside it in the same document, which may answer its sentences too."""
    near = range(max(0, index - 1), min(len(passages), index + 2))
    return [other for other in near if passages[other].document == passages[index].document]


def _drawn(passage: Passage, seed: int) -> list[tuple[int, int]]:
    """Return the sentences of a passage in a drawn order, those that make no sense alone last; none of a lone one."""
    if len(passage.sentences) < 2:
        return []
    drawn = random.Random(f"{seed} {passage.text}").sample(  # noqa: S311 (no secret)
        passage.sentences, len(passage.sentences)
    )
    return sorted(drawn, key=lambda span: points_back(passage.text[slice(*span)]))


def _sentences(passages: Sequence[Passage], seed: int) -> Iterator[list[Pair]]:
    """Yield sentences of each passage and the passage with them."""
    for index, passage in enumerate(passages):
        near = _neighbours(passages, index)
        yield [
            Pair("sentence", passage.text[start:end], passage.text, passage.text, near, passage.source)
            for start, end in _drawn(passage, seed)
        ]


def _clozes(passages: Sequence[Passage], shortest: int, seed: int) -> Iterator[list[Pair]]:
    """Yield sentences of each passage and the passage without them: the inverse cloze task (Lee et al., 2019).

    They come in another order than for the kind ``sentence``, so that it takes another one where there are two.
    """
    for index, passage in enumerate(passages):
        near = _neighbours(passages, index)
        drawn = _drawn(passage, seed)
        rests = [(passage.text[start:end], _without(passage.text, start, end)) for start, end in drawn[1:] + drawn[:1]]
        yield [
            Pair("cloze", sentence, rest, passage.text, near, passage.source)
            for sentence, rest in rests
            if len(words(rest)) >= shortest
        ]


def _without(text: str, start: int, end: int) -> str:
    """Return a text without one of its sentences and the space after it."""
    return (text[:start] + text[end:].lstrip()).strip()
