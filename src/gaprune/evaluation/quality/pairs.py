"""Tasks of sentence pairs: graded similarity (STS), and pairs that match or do not."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from gaprune.errors import DataError
from gaprune.evaluation.quality.files import fingerprint, read_records
from gaprune.evaluation.quality.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["PairClassificationTask", "PairTask", "SimilarityTask", "load_pairs"]


@dataclass(frozen=True, kw_only=True)
class PairTask(Task):
    """Pairs of sentences with a score each.

    Both sentences are encoded as ``model.encode`` does, with the model's default prompt if it has one: they are
    neither queries nor passages. sentence-transformers and mteb do the same.

    Args:
        first: The first sentences.
        second: The second sentences.
        scores: One number per pair.
    """

    first: tuple[str, ...] = field(repr=False, compare=False)
    second: tuple[str, ...] = field(repr=False, compare=False)
    scores: tuple[float, ...] = field(repr=False, compare=False)

    def texts(self) -> Iterator[str]:
        """Yield the sentences."""
        yield from self.first
        yield from self.second

    def _options(self, batch_size: int) -> dict[str, Any]:
        return {
            "sentences1": list(self.first),
            "sentences2": list(self.second),
            "batch_size": batch_size,
            "name": self.name,
            "write_csv": False,
            "similarity_fn_names": ["cosine"],
        }


class SimilarityTask(PairTask):
    """Rank pairs by similarity (STS)."""

    kind: ClassVar[str] = "STS"
    metric: ClassVar[str] = "Spearman"

    def metrics(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return Spearman's and Pearson's correlation of the cosine similarity with the scores.

        Both are 0 if the model gives all pairs the same similarity, so that they are undefined.
        """
        from scipy.stats import ConstantInputWarning, NearConstantInputWarning

        from gaprune.evaluation.quality.evaluators import Similarity

        evaluator = Similarity(scores=list(self.scores), **self._options(batch_size))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            warnings.simplefilter("ignore", NearConstantInputWarning)
            found = evaluator(model)
        values = {name: found[f"{self.name}_{name.lower()}_cosine"] for name in ("Spearman", "Pearson")}
        return {name: 0.0 if math.isnan(value) else value for name, value in values.items()}


class PairClassificationTask(PairTask):
    """Separate pairs that match from pairs that do not."""

    kind: ClassVar[str] = "pair classification"
    metric: ClassVar[str] = "AP"

    def metrics(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return the average precision of the cosine similarity, and the best accuracy and F1 over thresholds."""
        from gaprune.evaluation.quality.evaluators import Binary

        evaluator = Binary(labels=[int(score) for score in self.scores], **self._options(batch_size))
        found = evaluator(model)
        names = {"AP": "ap", "accuracy": "accuracy", "F1": "f1"}
        return {name: found[f"{self.name}_cosine_{key}"] for name, key in names.items()}


def load_pairs(path: Path, domain: str = "") -> PairTask:
    """Read lines of ``{"sentence1", "sentence2", "score"}``: pair classification if all scores are 0 or 1, else STS.

    Raises:
        DataError: If a line cannot be used, or all scores are the same.
    """
    records = list(read_records(path))
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
