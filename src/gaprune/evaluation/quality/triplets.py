"""Triplet tasks: is the positive nearer to the query than the negative?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gaprune.evaluation.quality.files import fingerprint, read_records
from gaprune.evaluation.quality.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts
    from gaprune.util.json_lines import Record

__all__ = ["TripletTask"]


@dataclass(frozen=True, kw_only=True)
class TripletTask(Task):
    """Prefer the passage that answers a query to one that does not, by cosine similarity.

    Args:
        triplets: Query, positive and one negative each; a line with several negatives gives several triplets.
    """

    kind: ClassVar[str] = "triplets"
    metric: ClassVar[str] = "accuracy"

    triplets: tuple[tuple[str, str, str], ...] = field(repr=False, compare=False)

    @classmethod
    def load(cls, path: Path, domain: str = "") -> TripletTask:
        """Read lines of ``{"query", "positive", "negative"}``, or of ``"negatives"`` with a list.

        Raises:
            DataError: If a line cannot be used.
        """
        triplets = tuple(triplet for record in read_records(path) for triplet in _triplets(record))
        return cls(name=path.stem, domain=domain, fingerprint=fingerprint(path), triplets=triplets)

    def texts(self) -> Iterator[str]:
        """Yield each text of the triplets once."""
        yield from dict.fromkeys(text for triplet in self.triplets for text in triplet)

    def metrics(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:
        """Return the share of triplets whose positive is nearer to the query than the negative."""
        from gaprune.evaluation.quality.metrics import embed

        queries, positives, negatives = zip(*self.triplets, strict=True)
        anchors = embed(model, queries, "query", prompts, batch_size=batch_size, task=self.name)
        passages = embed(model, positives + negatives, "passage", prompts, batch_size=batch_size, task=self.name)
        near, far = ((anchors * part).sum(dim=1) for part in passages.chunk(2))
        return {self.metric: float((near > far).float().mean())}


def _triplets(record: Record) -> list[tuple[str, str, str]]:
    query, positive = record.text("query"), record.text("positive")
    if "negatives" not in record.fields:
        return [(query, positive, record.text("negative"))]
    if "negative" in record.fields:
        raise record.error("has both columns 'negative' and 'negatives'.", "Keep one of them.")
    negatives = record.field("negatives")
    if not isinstance(negatives, list) or not negatives:
        raise record.error(f"the column 'negatives' holds {negatives!r:.60}, not a list of texts.", "Write a list.")
    return [(query, positive, record.check_text("negatives", negative)) for negative in negatives]
