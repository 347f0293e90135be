"""Searching passages, by words (BM25) or by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from gaprune.data.words import words
from gaprune.models.encode import encode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts


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
