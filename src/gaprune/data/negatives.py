"""Choosing hard negatives: passages that rank high for a query and do not answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gaprune.data.normal import normalise
from gaprune.data.pairs import Pair
from gaprune.data.words import shared_words, words
from gaprune.models.encode import encode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["EmbeddingSearch", "Search", "choose_negatives"]

_SHARED = 0.8
"""From this share of words in common on, two passages say too much of the same to be positive and negative."""

_LOOKED_AT = 50
"""Passages of a ranking that are looked at, beside those that answer the query."""

_SCORES = 2**24
"""Scores held at a time (128 MiB)."""

_CHUNK = 256
"""Number of queries searched at a time."""


class Search(Protocol):
    """Scores passages for queries."""

    floor: float
    """A passage must score more than this to be found at all."""

    def scores(self, queries: Sequence[str]) -> npt.NDArray[Any]:
        """Return the score of every passage for every query, ``(queries, passages)``; higher matches better."""


class EmbeddingSearch:
    """The passages in the space of a model.

    Args:
        passages: The texts to find.
        model: The model whose cosine similarity decides; it is not changed.
        prompts: Prompts of ``model``.
    """

    floor = -np.inf

    def __init__(self, passages: Sequence[str], model: SentenceTransformer, prompts: Prompts) -> None:
        self._model = model
        self._prompts = prompts
        self._vectors = encode(model, passages, "passage", prompts, normalize=True, label="Embedding passages")

    def scores(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the cosine similarity of every passage to every query, ``(queries, passages)``."""
        found = encode(self._model, queries, "query", self._prompts, normalize=True)
        return found @ self._vectors.T


def choose_negatives(
    pairs: Sequence[Pair], passages: Sequence[str], search: Search, *, count: int
) -> Iterator[tuple[str, ...] | None]:
    """Yield the ``count`` best-ranked negatives of each pair, or ``None`` where there are not so many.

    A passage is none that may answer the query, that shares 80 % or more of its words with the passage of the
    positive (of the smaller set of words, so that a text within the other is refused too), or that holds the query
    itself where that is a sentence. Where too few are found for the query, such as a title of words that no other
    passage has, those found for the positive follow.

    Args:
        pairs: The pairs.
        passages: The texts that ``search`` scores.
        search: BM25 or embeddings.
        count: Negatives of each pair; at least one.
    """
    sets = [frozenset(words(passage)) for passage in passages]

    def fitting(pair: Pair, scores: npt.NDArray[Any]) -> list[int]:
        own = frozenset(words(pair.whole)), frozenset(words(pair.positive))
        found = (
            index
            for index in _ranked(scores, search.floor, count + _LOOKED_AT + len(pair.relevant))
            if index not in pair.relevant
            and all(shared_words(sets[index], texts) < _SHARED for texts in own)
            and not _holds(passages[index], pair)
        )
        return list(islice(found, count))

    block = max(1, min(_CHUNK, _SCORES // len(passages)))
    for start in range(0, len(pairs), block):
        some = pairs[start : start + block]
        for pair, scores in zip(some, search.scores([pair.query for pair in some]), strict=True):
            chosen = fitting(pair, scores)
            if len(chosen) < count:
                chosen += [index for index in fitting(pair, search.scores([pair.positive])[0]) if index not in chosen]
            yield tuple(passages[index] for index in chosen[:count]) if len(chosen) >= count else None


def _ranked(scores: npt.NDArray[Any], floor: float, count: int) -> list[int]:
    """Return the passages with the highest scores above ``floor``, best first, of equal ones the first."""
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        found = np.flatnonzero((scores >= least) & (scores > floor))
    else:
        found = np.flatnonzero(scores > floor)
    order = np.argsort(-scores[found], kind="stable")
    return [int(index) for index in found[order]]


def _holds(passage: str, pair: Pair) -> bool:
    """Return whether a passage holds the sentence that is the query."""
    return pair.kind in ("sentence", "cloze") and normalise(pair.query) in normalise(passage)
