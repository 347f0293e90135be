"""The sampling of the GAPrune paper: the texts nearest to the centres of a k-means clustering."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gaprune.config.data import ITERATIONS
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.models.encode import encode
from gaprune.models.prompts import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_LARGE = 50_000
"""From this many queries on, k-means uses mini-batches."""

_DISTANCES = 2**24
"""Number of distances held at a time (64 MiB in float32)."""


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
    """Return representative triplets by :func:`sample_representative`, with the query embeddings of ``model``.

    Args:
        triplets: The triplets to draw from.
        model: A model, small for speed; it need not be the one that is pruned.
        count: Number of triplets returned.
        prompts: Prompts of ``model``.
        iterations: Maximum number of iterations of k-means.
        seed: Seed of k-means.
        batch_size: Number of queries encoded at a time.

    Raises:
        ConfigError: If ``count`` does not suit ``triplets``.
        DataError: If an embedding is not finite.
    """
    _first_of_each_query(triplets, count, iterations)  # errors before the embedding
    queries = [triplet.query for triplet in triplets]
    label = f"Embedding {triplets.name}"
    embeddings = encode(model, queries, "query", prompts, batch_size=batch_size, normalize=True, label=label)
    return sample_representative(triplets, embeddings, count=count, iterations=iterations, seed=seed)


def sample_representative(
    triplets: Triplets, embeddings: npt.NDArray[Any], *, count: int, iterations: int = ITERATIONS, seed: int
) -> Triplets:
    """Return the ``count`` triplets whose queries are nearest to the centres of ``count`` clusters.

    Every query is drawn at most once (a repeated query counts as its first triplet). If several centres have the same
    nearest query, each later centre takes its next nearest one.

    Args:
        triplets: The triplets to draw from.
        embeddings: Query embeddings, ``(len(triplets), dim)``.
        count: Number of clusters, and of triplets returned.
        iterations: Maximum number of iterations of k-means (of passes, for mini-batches).
        seed: Seed of the first centres.

    Returns:
        Exactly ``count`` triplets, in their order in ``triplets``.

    Raises:
        ConfigError: If ``count`` is not from one to below the number of triplets, or above the number of distinct
            queries.
        DataError: If an embedding is not finite.
        ValueError: If ``embeddings`` does not have one row per triplet.

    Source: the calibration data of the GAPrune paper (5,000 clusters, 20 iterations).
    """
    if embeddings.ndim != 2 or len(embeddings) != len(triplets):
        raise ValueError(f"embeddings of shape {embeddings.shape} for {len(triplets)} triplets")
    indices = _first_of_each_query(triplets, count, iterations)
    points = np.ascontiguousarray(embeddings[indices])
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        source = triplets[int(indices[finite.argmin()])].source or triplets.name
        remedy = "Check the text there, and load the model in float32."
        raise DataError("the embedding of the query is not finite.", remedy, source=source)
    chosen = _nearest(points, _centres(points, count, iterations, seed))
    return Triplets([triplets[index] for index in sorted(indices[chosen].tolist())], triplets.name)


def _first_of_each_query(triplets: Triplets, count: int, iterations: int) -> npt.NDArray[np.intp]:
    """Return the index of the first triplet of every query; check the options."""
    if not 1 <= count < len(triplets):
        raise ConfigError(
            f"sample: {count} asked for, {triplets.name} holds {len(triplets)}.",
            f"Sample 1 to {len(triplets) - 1} triplets, or use them all without sampling.",
        )
    if iterations < 1:
        raise ConfigError(f"iterations: {iterations} is below 1.", f"The paper uses {ITERATIONS}.")
    first: dict[str, int] = {}
    for index, triplet in enumerate(triplets):
        first.setdefault(triplet.query, index)
    if count > len(first):
        raise ConfigError(
            f"sample: {count} asked for, {triplets.name} holds {len(first)} different queries.",
            f"Sample at most {len(first)}.",
        )
    return np.fromiter(first.values(), dtype=np.intp)


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
        # With fewer distinct embeddings than clusters, centres coincide; _nearest then takes the next nearest texts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted: npt.NDArray[Any] = clusters.fit(embeddings).cluster_centers_
    return fitted


def _nearest(embeddings: npt.NDArray[Any], centres: npt.NDArray[Any]) -> list[int]:
    """Return, for each centre in turn, the nearest embedding not yet taken; the first one if several are equally near.

    The centre of a cluster of two lies exactly between them. Ties are broken with a tolerance, so that rounding does
    not decide and all machines agree.
    """
    squares = np.einsum("nd,nd->n", embeddings, embeddings)
    rounding = 64 * np.finfo(embeddings.dtype).eps * squares.max()
    taken = np.zeros(len(embeddings), dtype=bool)
    chosen: list[int] = []
    rows = max(1, _DISTANCES // len(embeddings))
    for start in range(0, len(centres), rows):
        # Without the square of the centre, which does not change the order of distances to it.
        distances = squares - 2 * centres[start : start + rows] @ embeddings.T
        for row, centre in zip(distances, centres[start : start + rows], strict=True):
            row[taken] = np.inf
            near = np.flatnonzero(row <= row.min() + rounding)
            exact = np.square(embeddings[near].astype(np.float64) - centre).sum(axis=1)
            index = int(near[(exact <= exact.min() * (1 + 1e-5)).argmax()])
            taken[index] = True
            chosen.append(index)
    return chosen
