"""Judging whether a query is fit to learn from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from gaprune.data.documents.passages import Passage
from gaprune.data.words import words

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
