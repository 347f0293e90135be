"""Retrieval tasks in the file layout of BEIR."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaprune.data.readers.judged import find_judged, read_judged
from gaprune.evaluation.quality.files import fingerprint
from gaprune.evaluation.quality.index import Vectors
from gaprune.evaluation.quality.search import SearchTask
from gaprune.evaluation.quality.task import Measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from gaprune.models.prompts import Prompts, Role

FIRST = 10
"""Documents of a ranking that are looked at."""

_DEEP = 100
"""Documents that a second model would order anew."""


@dataclass(frozen=True, kw_only=True)
class RetrievalTask(SearchTask):
    """Find the relevant documents for each query, by cosine similarity.

    Args:
        queries: Text of each judged query by id.
        documents: Title and text of each document by id.
        grades: Grade above 0 of each relevant document, by query and document.
    """

    kind: ClassVar[str] = "retrieval"
    metric: ClassVar[str] = "nDCG@10"

    queries: Mapping[str, str] = field(repr=False, compare=False)
    documents: Mapping[str, str] = field(repr=False, compare=False)
    grades: Mapping[str, Mapping[str, float]] = field(repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, domain: str = "") -> RetrievalTask:
        """Read ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/test.tsv``.

        Queries without a judgement are ignored, as in BEIR (they belong to other splits).

        Raises:
            DataError: If a file is missing, or a line of one cannot be used.
        """
        files = find_judged(folder, "test")
        found = read_judged(files)
        return cls(
            name=folder.name,
            domain=domain,
            fingerprint=fingerprint(files.documents, files.queries, files.judgements),
            queries=found.queries,
            documents=found.documents,
            grades=found.grades,
        )

    def texts(self) -> Iterator[str]:
        """Yield the judged queries, then the relevant documents."""
        yield from self.queries.values()
        for document in dict.fromkeys(document for found in self.grades.values() for document in found):
            yield self.documents[document]

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield queries and documents."""
        yield from (("query", text) for text in self.queries.values())
        yield from (("passage", text) for text in self.documents.values())

    def vectors(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Vectors:
        """Return the embeddings of the judged queries and of all documents."""
        from gaprune.evaluation.quality.metrics import embed

        texts, queries = list(self.documents.values()), list(self.queries.values())
        return Vectors(
            embed(model, queries, "query", prompts, batch_size=batch_size, task=self.name),
            embed(model, texts, "passage", prompts, batch_size=batch_size, task=self.name),
        )

    def measure_vectors(self, queries: Tensor, passages: Tensor) -> Measured:
        """Return nDCG@10, recall@10, MRR@10 and recall@100, and the nDCG@10 of every query."""
        from gaprune.evaluation.quality.metrics import first, recall

        deep = first(queries, passages, _DEEP)
        values = self._values([places[:FIRST] for places in deep])
        values[f"recall@{_DEEP}"] = recall(deep, list(self.documents), self._grades)
        return Measured({name: float(each.mean()) for name, each in values.items()}, values[self.metric])

    def metrics_of_rankings(self, rankings: Sequence[Sequence[int]]) -> Mapping[str, float]:
        """Return nDCG@10, recall@10 and MRR@10 of the places of ten documents for each query."""
        return {name: float(each.mean()) for name, each in self._values(rankings).items()}

    @property
    def _grades(self) -> list[Mapping[str, float]]:
        return [self.grades[query] for query in self.queries]

    def _values(self, rankings: Sequence[Sequence[int]]) -> dict[str, NDArray[np.float64]]:
        from gaprune.evaluation.quality.metrics import retrieval_metrics

        return retrieval_metrics(rankings, list(self.documents), self._grades, k=FIRST)

    def overlap(self, mine: Vectors, its: Vectors) -> float:
        """Return which share of the 10 documents that each query finds in the other index is the same for both."""
        from gaprune.evaluation.quality.metrics import first

        pairs = zip(*(first(queries, its.passages, FIRST) for queries in (mine.queries, its.queries)), strict=True)
        return fmean(len({*found} & {*others}) / len(others) for found, others in pairs)
