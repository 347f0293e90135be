"""Pairs of a query that is fit to learn from and its passage, made from the structure of documents."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

from gaprune.data.documents.passages import Passage
from gaprune.data.documents.read import Document
from gaprune.data.words import normalise, words

_LENGTHS: Mapping[str, tuple[int, float]] = {
    "title": (1, 30),
    "heading": (1, 30),
    "sentence": (5, 60),
    "cloze": (5, 60),
}
"""Minimum and maximum number of words of a query of each kind."""

_RARE = 0.1
"""A query needs a word that occurs in at most this share of the passages."""

_HEADINGS = """
abstract, acknowledgements, acknowledgments, about, annex, answers, appendix, background, basics, bibliography,
conclusion, conclusions, contents, definitions, discussion, example, examples, exercises, faq, foreword,
further reading, general, glossary, in this chapter, index, introduction, key terms, literature, materials and methods,
method, methods, miscellaneous, notes, objectives, other, outlook, overview, preface, problems, purpose, questions,
references, related work, remarks, results, results and discussion, review questions, scope, see also, sources,
summary, table of contents, usage, anhang, beispiele, einleitung, ergebnisse, inhalt, inhaltsverzeichnis, literatur,
quellen, zusammenfassung
"""

_GENERIC = frozenset(heading.strip() for heading in _HEADINGS.split(","))
"""Headings that do not describe the text under them, in English and German."""

_POINTERS = "it its this that these those they their them he his she her such here there however therefore thus"
_BACK = frozenset(_POINTERS.split())

Kind = Literal["title", "heading", "sentence", "cloze", "query"]
KINDS: tuple[Kind, ...] = get_args(Kind)[:-1]
"""The kinds made from documents; ``query`` is a query of the user."""


def points_back(sentence: str) -> bool:
    """Return whether an (English) sentence begins with a word that refers to the sentence before it."""
    return words(sentence)[:1] != [] and words(sentence)[0] in _BACK


class Judge:
    """Judges queries in the context of a collection of passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._frequency = Counter(word for passage in passages for word in set(words(passage.text)))
        self._rare = max(2, _RARE * len(passages))

    def unfit(self, kind: str, query: str, positive: str) -> str | None:
        """Return the reason why a query of this kind is not fit, or ``None``."""
        of_query = words(query)
        without_numbers = [word for word in of_query if not word.isdigit()]
        low, high = _LENGTHS.get(kind, (1, math.inf))
        if len(without_numbers) < low:
            return "query too short (without numbers)"
        if len(of_query) > high:
            return "query too long"
        generic = all(self._frequency[word] > self._rare for word in without_numbers)
        if generic or " ".join(without_numbers) in _GENERIC:
            return "query too generic"
        if set(of_query) >= set(words(positive)):
            return "query has all words of its passage"
        return None


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the passage that answers it.

    Args:
        kind: How the query was made.
        query: The query.
        positive: The text that answers it.
        whole: The passage that the positive was taken from; no negative may resemble it.
        relevant: Positions of passages that may answer the query too and cannot be its negatives.
        source: ``file:line`` of the positive, or of the user's query.
    """

    kind: Kind
    query: str
    positive: str
    whole: str
    relevant: Collection[int]
    source: str


def make_pairs(
    documents: Sequence[Document], passages: Sequence[Passage], kinds: Iterable[Kind], *, shortest: int, seed: int
) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs that are fit to learn from, and the numbers of those left out by reason.

    Left out are queries that are too short, too long or generic (a heading such as "Summary", or no word that occurs
    in less than a tenth of the passages), and queries with all words of their passage.
    """
    judge = Judge(passages)
    dropped: Counter[str] = Counter()
    pairs: list[Pair] = []
    for kind in kinds:
        for alternatives in _candidates(kind, documents, passages, shortest, seed):
            reasons = [judge.unfit(pair.kind, pair.query, pair.positive) for pair in alternatives]
            if None in reasons:
                pairs.append(alternatives[reasons.index(None)])
            else:
                dropped[f"{kind}: {reasons[0] if reasons else 'no two sentences to separate'}"] += 1
    return pairs, dropped


def without_ambiguous(pairs: Sequence[Pair]) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs without repetitions, and without queries that were made for several passages.

    The user's own queries are kept.
    """
    answers = Counter(query for query, _ in {(normalise(pair.query), normalise(pair.whole)) for pair in pairs})
    dropped: Counter[str] = Counter()
    unique, seen = [], set()
    for pair in pairs:
        both = normalise(pair.query), normalise(pair.positive)
        if pair.kind != "query" and answers[normalise(pair.query)] > 1:
            dropped[f"{pair.kind}: the same query for several passages"] += 1
        elif pair.kind != "query" and both in seen:
            dropped[f"{pair.kind}: the same pair of another kind"] += 1
        else:
            seen.add(both)
            unique.append(pair)
    return unique, dropped


def _candidates(
    kind: Kind, documents: Sequence[Document], passages: Sequence[Passage], shortest: int, seed: int
) -> Iterator[list[Pair]]:
    """Yield lists of alternative pairs, of which the first fit one is used."""
    if kind == "title":
        yield from _titles(documents, passages)
    elif kind == "heading":
        yield from _headings(passages)
    else:
        for index in range(len(passages)):
            yield _of_sentences(kind, passages, index, shortest, seed)


def _titles(documents: Sequence[Document], passages: Sequence[Passage]) -> Iterator[list[Pair]]:
    """Yield a document's title with its first passage; all passages of the document may answer the title."""
    for number, group in groupby(range(len(passages)), key=lambda index: passages[index].document):
        relevant = list(group)
        first = passages[relevant[0]]
        if title := documents[number].title:
            yield [Pair("title", title, first.text, first.text, relevant, first.source)]


def _headings(passages: Sequence[Passage]) -> Iterator[list[Pair]]:
    """Yield a heading with the first passage under it; all passages under the heading may answer it."""

    def section(index: int) -> tuple[int, int]:
        return passages[index].document, passages[index].section

    for _, group in groupby(range(len(passages)), key=section):
        relevant = list(group)
        first = passages[relevant[0]]
        if first.heading and first.is_first:
            yield [Pair("heading", first.heading, first.text, first.text, relevant, first.source)]


def _of_sentences(kind: Kind, passages: Sequence[Passage], index: int, shortest: int, seed: int) -> list[Pair]:
    """Return pairs of a sentence and its passage, with the sentence, or without it (``cloze``: inverse cloze task).

    For a cloze the sentences come in another order, so that the two kinds use different sentences of a passage.
    """
    passage = passages[index]
    near = range(max(0, index - 1), min(len(passages), index + 2))
    relevant = [other for other in near if passages[other].document == passage.document]
    drawn = _drawn(passage, seed)
    pairs = []
    for start, end in drawn[1:] + drawn[:1] if kind == "cloze" else drawn:
        positive = passage.text
        if kind == "cloze":
            positive = (passage.text[:start] + passage.text[end:].lstrip()).strip()
            if len(words(positive)) < shortest:
                continue
        pairs.append(Pair(kind, passage.text[start:end], positive, passage.text, relevant, passage.source))
    return pairs


def _drawn(passage: Passage, seed: int) -> list[tuple[int, int]]:
    """Return the sentences of a passage in random order, those that refer to another last; none if there is one."""
    if len(passage.sentences) < 2:
        return []
    generator = random.Random(f"{seed} {passage.text}")  # noqa: S311 (no secret)
    drawn = generator.sample(passage.sentences, len(passage.sentences))
    return sorted(drawn, key=lambda span: points_back(passage.text[slice(*span)]))
