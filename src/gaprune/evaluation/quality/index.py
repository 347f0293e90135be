"""How well the queries of a child find passages that its parent embedded: whether the parent's index can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gaprune.util.records import Record

if TYPE_CHECKING:
    from torch import Tensor

Numbers = Literal["float", "int8", "binary"]
"""Types of the numbers of an index."""

Reduction = Literal["", "truncation", "PCA"]
"""How embeddings are shortened."""

SAME_SPACE = 0.95
"""A child is said to be in its parent's space if its queries keep this share of the parent's score in its index."""


@dataclass(frozen=True)
class Vectors:
    """Embeddings of length one of the queries ``(queries, dim)`` and passages ``(passages, dim)`` of a task."""

    queries: Tensor
    passages: Tensor


@dataclass(frozen=True, kw_only=True)
class IndexScore:
    """The score of a child's queries against the parent's passages in one task.

    Args:
        value: The task's metric.
        query_cosine: Mean cosine between the embeddings of a query by the child and by the parent.
        passage_cosine: The same of a passage.
        overlap: Share of the first 10 passages that the parent's query finds in its index which the child's query
            finds there too, as a mean over queries; ``None`` for triplets, which rank no passages.
        items: What the metric rests on for each query; ``None`` for scores that were read from a file.
    """

    value: float
    query_cosine: float
    passage_cosine: float
    overlap: float | None = None
    items: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class SizeScore:
    """The quality of one kind of index.

    Args:
        dimensions: Of the embeddings in it.
        reduction: How they were shortened: to the first dimensions, or by PCA of the passages of each task.
        numbers: ``float``, ``int8``, or ``binary`` with rescoring.
        bytes: Size of one embedding.
        value: Mean nDCG@10 of the retrieval tasks.
    """

    dimensions: int
    reduction: Reduction
    numbers: Numbers
    bytes: float
    value: float


class ParentIndex(Record):
    """Whether a child can search the index of its parent, over all tasks of a kind.

    Args:
        same_space: Whether its queries keep at least :data:`SAME_SPACE` of the parent's score in the parent's index,
            in every domain: what one gains makes up for no loss in another.
        dimensions: Of the child's embeddings.
        parent_dimensions: Of the parent's; if they differ, there are no scores.
        metric: What the scores are: nDCG@10 of retrieval tasks, or accuracy of triplets if there are no such tasks.
        tasks: Names of the tasks.
        value: Mean score of the child's queries against the parent's passages.
        alone: Mean score of the child by itself.
        parent: Mean score of the parent.
        query_cosine: Mean cosine between the embeddings of a query by child and parent.
        passage_cosine: The same of a passage.
        overlap: Mean share of the parent's first 10 passages that the child finds in the parent's index.
        interval: The 95 % interval of ``value`` minus ``parent`` (paired bootstrap over queries); ``None`` over
            several domains, each of which has its own.
    """

    same_space: bool
    dimensions: int
    parent_dimensions: int
    metric: str | None = None
    tasks: tuple[str, ...] = ()
    value: float | None = None
    alone: float | None = None
    parent: float | None = None
    query_cosine: float | None = None
    passage_cosine: float | None = None
    overlap: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def change_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of :attr:`change`."""
        if self.interval is None or not self.parent:
            return None
        return self.interval[0] / self.parent, self.interval[1] / self.parent

    @property
    def is_uncertain(self) -> bool:
        """Whether the score in the index is on one side of :data:`SAME_SPACE` and its interval on both."""
        found = self.change_interval
        return found is not None and found[0] < SAME_SPACE - 1 <= found[1]

    @property
    def change(self) -> float | None:
        """The score in the parent's index against the parent's own, -0.02 is two per cent below."""
        return self.value / self.parent - 1 if self.value is not None and self.parent else None

    @property
    def gains_alone(self) -> bool:
        """Whether the child scores more among its own passages, or cannot search the parent's."""
        return self.value is None or self.alone is None or self.alone > self.value

    @classmethod
    def over(
        cls,
        scores: Sequence[tuple[str, str, str | None, float, float, IndexScore]],
        dimensions: tuple[int, int],
        interval: tuple[float, float] | None,
    ) -> ParentIndex:
        """Return the means over tasks: name, metric, domain, score alone, score of the parent, score in its index."""
        names, metrics, domains, alone, parents, found = zip(*scores, strict=True)
        value, parent = fmean(each.value for each in found), fmean(parents)
        pairs = list(zip(domains, (each.value for each in found), parents, strict=True))
        by_domain = [[(mine, its) for each, mine, its in pairs if each == domain] for domain in set(domains)]
        overlaps = [each.overlap for each in found if each.overlap is not None]
        return cls(
            same_space=all(
                fmean(mine for mine, _ in each) >= SAME_SPACE * fmean(its for _, its in each) > 0 for each in by_domain
            ),
            dimensions=dimensions[0],
            parent_dimensions=dimensions[1],
            metric=metrics[0],
            tasks=names,
            value=value,
            alone=fmean(alone),
            parent=parent,
            query_cosine=fmean(each.query_cosine for each in found),
            passage_cosine=fmean(each.passage_cosine for each in found),
            overlap=fmean(overlaps) if overlaps else None,
            interval=interval,
        )
