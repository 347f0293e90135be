"""BM25: how well passages match the words of a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gaprune.data.words import words

__all__ = ["K1", "B", "Bm25"]

K1 = 1.2
"""How soon further occurrences of a word count less; the value of Lucene and of the literature."""

B = 0.75
"""How much long passages are held back, likewise."""


class Bm25:
    """An index of passages.

    Args:
        passages: The texts to find; at least one.

    Source:
        Robertson and Zaragoza (2009), The Probabilistic Relevance Framework; the inverse document frequency is
        Lucene's, ``ln(1 + (N - n + 0.5) / (n + 0.5))``, which is never negative.
    """

    floor = 0.0
    """A passage with this score has no word of the query."""

    def __init__(self, passages: Sequence[str]) -> None:
        from scipy.sparse import diags
        from sklearn.feature_extraction.text import CountVectorizer

        self._counter: Any = CountVectorizer(analyzer=words, dtype=np.float64)
        counts: Any = self._counter.fit_transform(passages).tocsr()
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        held_back = K1 * (1 - B + B * lengths / lengths.mean())
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        counts.data = counts.data * (K1 + 1) / (counts.data + held_back[rows])
        containing = np.bincount(counts.indices, minlength=counts.shape[1])
        frequency = np.log1p((counts.shape[0] - containing + 0.5) / (containing + 0.5))
        self._weights: Any = (counts @ diags(frequency)).T.tocsr()

    def scores(self, queries: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the score of every passage for every query, ``(queries, passages)``; higher matches better."""
        found: npt.NDArray[np.float64] = (self._counter.transform(queries) @ self._weights).toarray()
        return found
