"""The paper's sampling: the texts nearest to the centres of a k-means clustering."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gaprune.config.data import ITERATIONS
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.models.encode import encode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["sample", "sample_representative"]

_LARGE = 50_000
"""From this many queries on, k-means goes through them in mini-batches."""

_DISTANCES = 2**24
"""Distances held at a time (64 MiB in float32)."""


def _centres(embeddings: npt.NDArray[Any], count: int, iterations: int, seed: int) -> npt.NDArray[Any]:
    """Return ``(count, dim)`` cluster centres."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    options: dict[str, Any] = {"n_clusters": count, "max_iter": iterations, "n_init": 1, "random_state": seed}
    if len(embeddings) >= _LARGE:
        clusters = MiniBatchKMeans(batch_size=max(4096, 2 * count), **options)
    else:
        clusters = KMeans(**options)
    with warnings.catch_warnings():
        # Fewer distinct embeddings than clusters: centres coincide, and the next nearest texts are taken below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted: npt.NDArray[Any] = clusters.fit(embeddings).cluster_centers_
    return fitted


def _first_nearest(points: npt.NDArray[Any], centre: npt.NDArray[Any]) -> int:
    """Return the point nearest to ``centre``, of equally near ones (to five digits) the first."""
    distances = np.square(points.astype(np.float64) - centre).sum(axis=1)
    return int((distances <= distances.min() * (1 + 1e-5)).argmax())


def _nearest(embeddings: npt.NDArray[Any], centres: npt.NDArray[Any]) -> list[int]:
    """Return, centre by centre, the nearest embedding that no centre before it took; of equally near ones the first.

    A cluster of two has its centre exactly between them: rounding must not decide, or machines would disagree.
    """
    squares = np.einsum("nd,nd->n", embeddings, embeddings)
    rounding = 64 * np.finfo(embeddings.dtype).eps * squares.max()
    taken = np.zeros(len(embeddings), dtype=bool)
    chosen: list[int] = []
    rows = max(1, _DISTANCES // len(embeddings))
    for start in range(0, len(centres), rows):
        # Without the centre's own square, which does not change who is nearest to it.
        distances = squares - 2 * centres[start : start + rows] @ embeddings.T
        for row, centre in zip(distances, centres[start : start + rows], strict=True):
            row[taken] = np.inf
            near = np.flatnonzero(row <= row.min() + rounding)
            index = int(near[_first_nearest(embeddings[near], centre)])
            taken[index] = True
            chosen.append(index)
    return chosen


def sample_representative(
    triplets: Triplets, embeddings: npt.NDArray[Any], *, count: int, iterations: int = ITERATIONS, seed: int
) -> Triplets:
    """Return the ``count`` triplets whose queries stand nearest to the centres of ``count`` clusters.

    Every query is taken once at most (a query that stands there several times counts as its first triplet). Where two
    centres have the same nearest query, the later centre takes its next nearest.

    Args:
        triplets: What to draw from.
        embeddings: Query embeddings, ``(len(triplets), dim)``.
        count: Number of clusters, and of triplets returned.
        iterations: Most iterations of k-means (passes, for mini-batches).
        seed: Seed of the first centres.

    Returns:
        Exactly ``count`` triplets, in their order in ``triplets``.

    Raises:
        ConfigError: If ``count`` is not from one to below the number of triplets, or above that of different
            queries.
        DataError: If an embedding is not finite.
        ValueError: If ``embeddings`` has not one row a triplet.

    Source: the GAPrune paper's calibration data (5,000 clusters, 20 iterations).
    """
    if embeddings.ndim != 2 or len(embeddings) != len(triplets):
        raise ValueError(f"embeddings of shape {embeddings.shape} for {len(triplets)} triplets")
    if not 1 <= count < len(triplets):
        raise ConfigError(
            f"sample: {count} asked for, {triplets.name} holds {len(triplets)}.",
            f"Sample 1 to {len(triplets) - 1} triplets, or use them all without sampling.",
        )
    if iterations < 1:
        raise ConfigError(f"iterations: {iterations} is below 1.", f"Use the paper's {ITERATIONS}.")
    first: dict[str, int] = {}
    for index, triplet in enumerate(triplets):
        first.setdefault(triplet.query, index)
    if count > len(first):
        raise ConfigError(
            f"sample: {count} asked for, {triplets.name} holds {len(first)} different queries.",
            f"Sample at most {len(first)}.",
        )
    indices = np.fromiter(first.values(), dtype=np.intp)
    points = np.ascontiguousarray(embeddings[indices])
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        source = triplets[int(indices[finite.argmin()])].source or triplets.name
        remedy = "Check the text there, and load the model in float32."
        raise DataError("the embedding of the query is not finite.", remedy, source=source)
    chosen = _nearest(points, _centres(points, count, iterations, seed))
    return Triplets([triplets[index] for index in sorted(indices[chosen].tolist())], triplets.name)


def sample(
    triplets: Triplets,
    model: SentenceTransformer,
    count: int,
    *,
    prompts: Prompts,
    iterations: int = ITERATIONS,
    seed: int,
    batch_size: int = 64,
) -> Triplets:
    """Return ``count`` representative triplets, chosen by the query embeddings of ``model``.

    Args:
        triplets: What to draw from.
        model: A model, small for speed; it need not be the one that is pruned.
        count: Number of triplets returned.
        prompts: Prompts of ``model``.
        iterations: Most iterations of k-means.
        seed: Seed of k-means.
        batch_size: Queries encoded at a time.

    Raises:
        ConfigError: If ``count`` does not suit ``triplets``.
        DataError: If an embedding is not finite.
    """
    if not 1 <= count < len(triplets):  # known before the costly part
        sample_representative(triplets, np.zeros((len(triplets), 1)), count=count, iterations=iterations, seed=seed)
    queries = [triplet.query for triplet in triplets]
    label = f"Embedding {triplets.name}"
    embeddings = encode(model, queries, "query", prompts, batch_size=batch_size, normalize=True, label=label)
    return sample_representative(triplets, embeddings, count=count, iterations=iterations, seed=seed)
