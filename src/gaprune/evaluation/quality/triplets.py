"""Tasks of triplets: is the positive nearer than the negatives?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gaprune.evaluation.quality.lines import Line, fingerprint, read_json_lines
from gaprune.evaluation.quality.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["TripletTask"]


@dataclass(frozen=True, kw_only=True)
class TripletTask(Task):
    """Tell the passage that answers a query from one that does not, by cosine similarity.

    Args:
        triplets: Query, positive and one negative each; a line with several negatives gives several.
    """

    kind: ClassVar[str] = "triplets"
    metric: ClassVar[str] = "accuracy"

    triplets: tuple[tuple[str, str, str], ...] = field(repr=False, compare=False)

    @classmethod
    def load(cls, path: Path, domain: str = "") -> TripletTask:
        """Read ``{"query", "positive", "negative"}`` a line, or ``"negatives"`` with a list.

        Raises:
            DataError: If a line cannot be used.
        """
        triplets = tuple(triplet for line in read_json_lines(path) for triplet in _triplets(line))
        return cls(name=path.stem, domain=domain, fingerprint=fingerprint(path), triplets=triplets)

    def texts(self) -> Iterator[str]:
        """Yield each text of the triplets once."""
        yield from dict.fromkeys(text for triplet in self.triplets for text in triplet)

    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:
        """Return the share of triplets whose positive is nearer to the query than the negative."""
        from gaprune.evaluation.quality.evaluators import Triplet

        queries, positives, negatives = zip(*self.triplets, strict=True)
        evaluator = Triplet(
            {"query": prompts.query, "document": prompts.passage},
            anchors=queries,
            positives=positives,
            negatives=negatives,
            batch_size=batch_size,
            name=self.name,
            write_csv=False,
            similarity_fn_names=["cosine"],
        )
        return {self.metric: evaluator(model)[f"{self.name}_cosine_accuracy"]}


def _triplets(line: Line) -> list[tuple[str, str, str]]:
    query, positive = line.text("query"), line.text("positive")
    if "negatives" not in line.fields:
        return [(query, positive, line.text("negative"))]
    if "negative" in line.fields:
        raise line.error("The line has both 'negative' and 'negatives'.", "Keep one of them.")
    negatives = line.field("negatives")
    if not isinstance(negatives, list) or not negatives:
        raise line.error(f"The field 'negatives' is {negatives!r}, not a list of texts.", "Write a list, not empty.")
    return [(query, positive, line.check_text("negatives", negative)) for negative in negatives]
