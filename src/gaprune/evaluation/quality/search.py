"""Tasks that compare queries with passages, so that a model's queries can be tried in another model's index."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gaprune.evaluation.quality.index import IndexScore, Vectors
from gaprune.evaluation.quality.task import Measured, Task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from gaprune.evaluation.quality.scores import Score
    from gaprune.models.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class SearchTask(Task):
    """A task whose metrics follow from the embeddings of its queries and passages."""

    @abstractmethod
    def vectors(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Vectors:
        """Return the embeddings of the queries and passages by ``model``."""

    @abstractmethod
    def measure_vectors(self, queries: Tensor, passages: Tensor) -> Measured:
        """Return what these embeddings of length one do, ``(queries, dim)`` and ``(passages, dim)``."""

    def overlap(self, mine: Vectors, its: Vectors) -> float | None:  # noqa: ARG002 (triplets rank no passages)
        """Return how many of the first passages that another model finds in its index are found there by mine."""
        return None

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Measured:
        """Return what the model's own queries and passages do."""
        found = self.vectors(model, prompts=prompts, batch_size=batch_size)
        return self.measure_vectors(found.queries, found.passages)

    def evaluate(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Score:
        """Score ``model`` in this task, and keep its embeddings with the score.

        Raises:
            ModelError: If the model gives embeddings that are not finite.
        """
        start = time.perf_counter()
        found = self.vectors(model, prompts=prompts, batch_size=batch_size)
        score = self.score(self.measure_vectors(found.queries, found.passages), seconds=time.perf_counter() - start)
        return replace(score, vectors=found)

    def in_index(self, mine: Vectors, its: Vectors) -> IndexScore:
        """Return the score of a child's queries against its parent's passages, from the embeddings of both.

        Both must have the same number of dimensions.
        """
        its = Vectors(its.queries.to(mine.queries), its.passages.to(mine.passages))
        found = self.measure_vectors(mine.queries, its.passages)
        return IndexScore(
            value=found.metrics[self.metric],
            query_cosine=float((mine.queries * its.queries).sum(dim=1).mean()),
            passage_cosine=float((mine.passages * its.passages).sum(dim=1).mean()),
            overlap=self.overlap(mine, its),
            items=found.items,
        )
