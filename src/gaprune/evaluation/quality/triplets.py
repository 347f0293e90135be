"""Triplet tasks: is the positive nearer to the query than the negative?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gaprune.data.readers.records import parse_records
from gaprune.evaluation.quality.files import fingerprint, read_records
from gaprune.evaluation.quality.index import Vectors
from gaprune.evaluation.quality.search import SearchTask
from gaprune.evaluation.quality.task import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from gaprune.models.prompts import Prompts, Role


@dataclass(frozen=True, kw_only=True)
class TripletTask(SearchTask):
    """Prefer the passage that answers a query to one that does not, by cosine similarity.

    Args:
        triplets: Query, positive and one negative each; a line with several negatives gives several triplets.
    """

    kind: ClassVar[str] = "triplets"
    metric: ClassVar[str] = "accuracy"

    triplets: tuple[tuple[str, str, str], ...] = field(repr=False, compare=False)

    @classmethod
    def load(cls, path: Path, domain: str = "") -> TripletTask:
        """Read lines as calibration triplets are read; each needs a negative.

        Raises:
            DataError: If a line cannot be used.
        """
        items = parse_records(read_records(path), None, require_negatives=True, option=None)
        triplets = tuple((item.query, item.positive, negative) for item in items for negative in item.negatives)
        return cls(name=path.stem, domain=domain, fingerprint=fingerprint(path), triplets=triplets)

    def texts(self) -> Iterator[str]:
        """Yield each text of the triplets once."""
        yield from dict.fromkeys(text for triplet in self.triplets for text in triplet)

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield every text with its role."""
        for query, *passages in self.triplets:
            yield "query", query
            yield from (("passage", text) for text in passages)

    def vectors(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Vectors:
        """Return the embeddings of the queries, and of all positives before all negatives."""
        from gaprune.evaluation.quality.metrics import embed

        queries, positives, negatives = zip(*self.triplets, strict=True)
        return Vectors(
            embed(model, queries, "query", prompts, batch_size=batch_size, task=self.name),
            embed(model, positives + negatives, "passage", prompts, batch_size=batch_size, task=self.name),
        )

    def measure_vectors(self, queries: Tensor, passages: Tensor) -> Measured:
        """Return the share of triplets whose positive is nearer than the negative, and for each query how many."""
        near, far = ((queries * part).sum(dim=1) for part in passages.chunk(2))
        right = (near > far).double().cpu().numpy()
        return Measured(
            {self.metric: float(right.mean())}, np.bincount(self._numbers, weights=right).astype(np.float64)
        )

    def resampled(self, items: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric of every resample of queries, each with all of its triplets, ``(resamples,)``."""
        found: NDArray[np.float64] = drawn @ items / (drawn @ np.bincount(self._numbers))
        return found

    @cached_property
    def _numbers(self) -> list[int]:
        """The number of the query of every triplet."""
        known: dict[str, int] = {}
        return [known.setdefault(query, len(known)) for query, _, _ in self.triplets]
