"""Tasks of sentence pairs: graded similarity (STS), and pairs that match or do not."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaprune.errors import DataError
from gaprune.evaluation.quality.files import fingerprint, read_records
from gaprune.evaluation.quality.task import Measured, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class PairTask(Task):
    """Pairs of sentences with a score each.

    Both sentences are encoded as ``model.encode`` does, with the model's default prompt if it has one: they are
    neither queries nor passages. sentence-transformers and mteb do the same.
    """

    first: tuple[str, ...] = field(repr=False, compare=False)
    second: tuple[str, ...] = field(repr=False, compare=False)
    scores: tuple[float, ...] = field(repr=False, compare=False)

    def texts(self) -> Iterator[str]:
        """Yield the sentences."""
        yield from self.first
        yield from self.second

    def similarities(self, model: SentenceTransformer, batch_size: int) -> list[float]:
        """Return the cosine similarity of each pair."""
        from gaprune.evaluation.quality.metrics import embed

        both = embed(model, self.first + self.second, None, None, batch_size=batch_size, task=self.name)
        first, second = both.chunk(2)
        found: list[float] = (first * second).sum(dim=1).tolist()
        return found

    @abstractmethod
    def metrics_of(self, similarities: Sequence[float], scores: Sequence[float]) -> Mapping[str, float]:
        """Return the metrics of pairs with these cosine similarities and scores."""

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Measured:  # noqa: ARG002
        """Return the metrics, and the cosine similarity of each pair."""
        found = self.similarities(model, batch_size)
        return Measured(self.metrics_of(found, self.scores), np.array(found))


class SimilarityTask(PairTask):
    """Rank pairs by similarity (STS)."""

    kind: ClassVar[str] = "STS"
    metric: ClassVar[str] = "Spearman"

    def metrics_of(self, similarities: Sequence[float], scores: Sequence[float]) -> Mapping[str, float]:
        """Return Spearman's and Pearson's correlation of the cosine similarity with the scores."""
        from gaprune.evaluation.quality.metrics import correlations

        return correlations(similarities, scores)

    def resampled(self, items: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Spearman's correlation of every resample; NaN for one whose pairs all have the same score."""
        from gaprune.evaluation.quality.metrics import resampled_spearman

        return resampled_spearman(items, np.array(self.scores), drawn)


class PairClassificationTask(PairTask):
    """Separate pairs that match from pairs that do not."""

    kind: ClassVar[str] = "pair classification"
    metric: ClassVar[str] = "AP"

    def metrics_of(self, similarities: Sequence[float], scores: Sequence[float]) -> Mapping[str, float]:
        """Return the average precision of the cosine similarity, and the best accuracy and F1 over thresholds."""
        from gaprune.evaluation.quality.metrics import pair_classification

        return pair_classification(similarities, [int(score) for score in scores])

    def resampled(self, items: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average precision of every resample; NaN for one without a matching pair."""
        from gaprune.evaluation.quality.metrics import resampled_precision

        return resampled_precision(items, np.array(self.scores), drawn)


def load_pairs(path: Path, domain: str = "") -> PairTask:
    """Read lines of ``{"sentence1", "sentence2", "score"}``: pair classification if all scores are 0 or 1, else STS.

    Raises:
        DataError: If a line cannot be used, or all scores are the same.
    """
    records = [record.require("sentence1", "sentence2", "score") for record in read_records(path)]
    scores = tuple(record.finite_number("score") for record in records)
    if len(set(scores)) < 2:
        raise DataError(
            f"all {len(scores)} scores are {scores[0]:g}; the task needs different ones.",
            "Add pairs with other scores, or remove the task.",
            source=path,
        )
    kind = PairClassificationTask if set(scores) == {0, 1} else SimilarityTask
    return kind(
        name=path.stem,
        domain=domain,
        fingerprint=fingerprint(path),
        first=tuple(record.text("sentence1") for record in records),
        second=tuple(record.text("sentence2") for record in records),
        scores=scores,
    )
