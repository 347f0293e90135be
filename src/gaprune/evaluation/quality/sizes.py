"""Quality of retrieval by the size of the index: number of dimensions, and type of the numbers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from gaprune.evaluation.quality.index import Numbers, Reduction, SizeScore
from gaprune.evaluation.quality.retrieval import FIRST, RetrievalTask

if TYPE_CHECKING:
    from torch import Tensor

    from gaprune.evaluation.quality.index import Vectors
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.evaluation.quality.task import Task

_BITS: dict[Numbers, int] = {"float": 32, "int8": 8, "binary": 1}
_DIVISORS = (1, 2, 4)
_CANDIDATES = 4
"""For every passage that is wanted so many are found by the binary search and then ordered by the query in fp32."""


def measure_sizes(tasks: Sequence[Task], evaluation: Evaluation) -> tuple[SizeScore, ...]:
    """Return the quality of all kinds of index, the model's own first.

    Passages are quantised by ``quantize_embeddings`` of sentence-transformers; queries stay in fp32. A binary index is
    searched by Hamming distance, and the first 40 passages are ordered by their product with the query in fp32.

    Args:
        tasks: The tasks of the evaluation; those that retrieve count.
        evaluation: Scores that kept their vectors.
    """
    searched = [
        (task, score.vectors)
        for task, score in zip(tasks, evaluation.scores, strict=True)
        if isinstance(task, RetrievalTask) and score.vectors is not None
    ]
    if not searched:
        return ()
    own = searched[0][1].passages.shape[1]
    found = []
    for dimensions, reduction, shorten in _reductions(own):
        short = [(task, *shorten(vectors)) for task, vectors in searched]
        for numbers, bits in _BITS.items():
            values = [
                task.metrics_of_rankings(_rankings(queries, passages, numbers))[task.metric]
                for task, queries, passages in short
            ]
            size = dimensions * bits / 8
            found.append(
                SizeScore(dimensions=dimensions, reduction=reduction, numbers=numbers, bytes=size, value=fmean(values))
            )
    return tuple(found)


def _reductions(own: int) -> Iterator[tuple[int, Reduction, Callable[[Vectors], tuple[Tensor, Tensor]]]]:
    """Yield numbers of dimensions, and how queries and passages are shortened to them and normalised."""
    import torch
    from torch.nn.functional import normalize

    def truncation(vectors: Vectors, *, dimensions: int) -> tuple[Tensor, Tensor]:
        return normalize(vectors.queries[:, :dimensions]), normalize(vectors.passages[:, :dimensions])

    def components(vectors: Vectors, *, dimensions: int) -> tuple[Tensor, Tensor]:
        passages = vectors.passages.double()
        axes = torch.linalg.eigh(passages.T @ passages).eigenvectors.flip(1)[:, :dimensions].to(vectors.passages)
        return normalize(vectors.queries @ axes), normalize(vectors.passages @ axes)

    for dimensions in sorted({max(own // divisor, 1) for divisor in _DIVISORS}, reverse=True):
        ways: dict[Reduction, Callable[..., tuple[Tensor, Tensor]]] = (
            {"": truncation} if dimensions == own else {"truncation": truncation, "PCA": components}
        )
        for reduction, way in ways.items():
            yield dimensions, reduction, partial(way, dimensions=dimensions)


def _rankings(queries: Tensor, passages: Tensor, numbers: Numbers) -> list[list[int]]:
    """Return the first passages of every query in an index of these numbers."""
    import numpy as np
    import torch
    from sentence_transformers.util import quantize_embeddings

    from gaprune.evaluation.quality.metrics import first

    if numbers == "float":
        return first(queries, passages, FIRST)
    plain, asked = passages.cpu().numpy(), queries.cpu()
    if numbers == "int8":
        lowest, highest = plain.min(axis=0), plain.max(axis=0)
        kept = np.asarray(quantize_embeddings(plain, "int8", ranges=np.stack([lowest, highest])), np.float32)
        index = (kept + 128) * ((highest - lowest) / 255) + lowest
        return first(asked, torch.from_numpy(index), FIRST)

    def signs(vectors: np.ndarray) -> Tensor:
        bits = np.unpackbits(quantize_embeddings(vectors, "ubinary"), axis=1, count=vectors.shape[1])
        return torch.from_numpy(2 * bits.astype(np.float32) - 1)

    index = signs(plain)
    near = first(signs(asked.numpy()), index, _CANDIDATES * FIRST)
    return [
        [few[place] for place in first(query[None], index[few], FIRST)[0]]
        for query, few in zip(asked, near, strict=True)
    ]
