"""Searching passages, by words (BM25) or by embeddings, and choosing hard negatives by that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gaprune.data.documents.pairs import Pair
from gaprune.data.words import normalise, shared_words, words
from gaprune.models.encode import encode
from gaprune.models.prompts import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SHARED = 0.8
"""Passages that share this part of their words with a positive or more are too similar to be its negatives."""

_LOOKED_AT = 50
"""Number of passages of a ranking that are considered, besides those that answer the query."""

_SCORES = 2**24
"""Number of scores held at a time (128 MiB)."""

_CHUNK = 256
"""Number of queries searched at a time."""


class Search(Protocol):
    """An index of passages."""

    floor: float
    """Passages are found only if they score more than this."""

    def scores(self, queries: Sequence[str]) -> npt.NDArray[Any]:
        """Return the score of every passage for every query, ``(queries, passages)``; higher is better."""


class Bm25:
    """BM25 over the words of passages, in Lucene's variant and with its constants.

    Args:
        passages: The texts to find; at least one word in all.
    """

    floor = 0.0
    """The score of a passage without any word of the query."""

    def __init__(self, passages: Sequence[str]) -> None:
        from bm25s import BM25  # type: ignore[import-untyped]

        self._count = len(passages)
        self._index: Any = BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
        self._index.index([words(passage) for passage in passages], show_progress=False)

    def scores(self, queries: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the score of every passage for every query, ``(queries, passages)``."""
        of_queries = map(words, queries)
        return np.stack([self._index.get_scores(query) if query else np.zeros(self._count) for query in of_queries])


class EmbeddingSearch:
    """Cosine similarity of embeddings."""

    floor = -np.inf

    def __init__(self, passages: Sequence[str], model: SentenceTransformer, prompts: Prompts) -> None:
        self._model = model
        self._prompts = prompts
        self._vectors = encode(model, passages, "passage", prompts, normalize=True, label="Embedding passages")

    def scores(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the cosine similarity of every passage to every query, ``(queries, passages)``."""
        found: npt.NDArray[np.float32] = encode(self._model, queries, "query", self._prompts, normalize=True)
        return found @ self._vectors.T


def choose_negatives(
    pairs: Sequence[Pair], passages: Sequence[str], search: Search, *, count: int
) -> Iterator[tuple[str, ...] | None]:
    """Yield the ``count`` best-ranked negatives of each pair, or ``None`` if there are fewer.

    A passage is refused if it may answer the query, if it shares 80 % or more of its words with the passage of the
    positive (of the smaller set of words, so that a text within the other is refused too), or if it contains the
    query and that is a sentence. If too few passages match the query, those that match the positive follow.
    """
    sets = [frozenset(words(passage)) for passage in passages]

    def fitting(pair: Pair, scores: npt.NDArray[Any]) -> list[int]:
        own = frozenset(words(pair.whole)), frozenset(words(pair.positive))
        is_sentence = pair.kind in ("sentence", "cloze")
        found = (
            index
            for index in _ranked(scores, search.floor, count + _LOOKED_AT + len(pair.relevant))
            if index not in pair.relevant
            and all(shared_words(sets[index], texts) < _SHARED for texts in own)
            and not (is_sentence and normalise(pair.query) in normalise(passages[index]))
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
    """Return the (at least) ``count`` passages with the highest scores above ``floor``, best first and stable."""
    least = floor if count >= len(scores) else np.partition(scores, -count)[-count]
    found = np.flatnonzero((scores >= least) & (scores > floor))
    return [int(index) for index in found[np.argsort(-scores[found], kind="stable")]]
