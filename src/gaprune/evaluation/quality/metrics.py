"""Metrics of embeddings, as sentence-transformers and mteb define them. This module imports torch and scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ConstantInputWarning, NearConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve
from torch import Tensor

from gaprune.errors import ModelError
from gaprune.models.encode import encode_tensor
from gaprune.util.threshold import largest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts, Role


def embed(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | None,
    *,
    batch_size: int,
    task: str,
) -> Tensor:
    """Return embeddings of length one, ``(texts, dim)``; repeated texts are encoded once.

    Raises:
        ModelError: If an embedding contains NaN or infinity.
    """
    place = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    found = encode_tensor(model, list(place), role, prompts, batch_size=batch_size)
    bad = int((~torch.isfinite(found).all(dim=1)).sum())
    if bad:
        raise ModelError(
            f"The model gives embeddings with NaN or infinity for {bad} of {len(place)} texts of the task {task}.",
            "Prune less, or load the model with dtype=float32.",
        )
    return torch.nn.functional.normalize(found)[[place[text] for text in texts]]


def correlations(similarities: Sequence[float], scores: Sequence[float]) -> dict[str, float]:
    """Return Spearman's and Pearson's correlation; 0 if all similarities are equal, so that they are undefined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        warnings.simplefilter("ignore", NearConstantInputWarning)
        found = {
            "Spearman": float(spearmanr(scores, similarities).statistic),
            "Pearson": float(pearsonr(scores, similarities).statistic),
        }
    return {name: 0.0 if math.isnan(value) else value for name, value in found.items()}


def pair_classification(similarities: Sequence[float], labels: Sequence[int]) -> dict[str, float]:
    """Return the average precision, and the best accuracy and F1 over all thresholds."""
    matching = np.mean(labels)
    false, true, _ = roc_curve(labels, similarities, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, similarities)
    return {
        "AP": float(average_precision_score(labels, similarities)),
        "accuracy": float((true * matching + (1 - false) * (1 - matching)).max()),
        "F1": float((2 * precision * recall / (precision + recall).clip(min=1e-12)).max()),
    }


def resampled_spearman(
    similarities: NDArray[np.float64], scores: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Spearman's correlation of every resample of pairs, ``(resamples,)``.

    It is 0 where all similarities are equal, and NaN where all scores are.

    Args:
        similarities: Of each pair, ``(pairs,)``.
        scores: Of each pair, ``(pairs,)``.
        drawn: How often each pair is in each resample, ``(resamples, pairs)``.
    """
    mine, its = (_centred_ranks(each, drawn) for each in (similarities, scores))
    squares = [(drawn * each**2).sum(axis=1) for each in (mine, its)]
    product = (drawn * mine * its).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = product / np.sqrt(squares[0] * squares[1])
    return np.where(squares[1] == 0, np.nan, np.where(squares[0] == 0, 0.0, found))


def _centred_ranks(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean rank of each value in each resample, less the mean of all ranks, ``(resamples, values)``."""
    different, place = np.unique(values, return_inverse=True)
    sizes = np.zeros((len(different), len(drawn)))
    np.add.at(sizes, place, drawn.T)
    ranks = sizes.cumsum(axis=0) - (sizes + len(values)) / 2
    return ranks.T[:, place]


def resampled_precision(
    similarities: NDArray[np.float64], labels: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the average precision of every resample of pairs, ``(resamples,)``; NaN where no pair matches.

    Args:
        similarities: Of each pair, ``(pairs,)``.
        labels: 1 for each pair that matches and 0 for the others, ``(pairs,)``.
        drawn: How often each pair is in each resample, ``(resamples, pairs)``.
    """
    order = np.argsort(-similarities)
    thresholds = np.flatnonzero(np.diff(similarities[order], append=np.nan))  # the last pair of each similarity
    found = drawn[:, order].cumsum(axis=1)[:, thresholds]
    matching = (drawn * labels)[:, order].cumsum(axis=1)[:, thresholds]
    precision = matching / found.clip(min=1)
    with np.errstate(invalid="ignore"):
        average: NDArray[np.float64] = (np.diff(matching, axis=1, prepend=0) * precision).sum(axis=1) / matching[:, -1]
    return average


def first(queries: Tensor, documents: Tensor, k: int) -> list[list[int]]:
    """Return the places of the ``k`` documents with the largest product with each query, in that order."""
    return [largest(documents @ query, min(k, len(documents))) for query in queries]


def retrieval_metrics(
    rankings: Sequence[Sequence[int]], identifiers: Sequence[str], grades: Sequence[Mapping[str, float]], *, k: int
) -> dict[str, NDArray[np.float64]]:
    """Return nDCG, recall and MRR of rankings of ``k`` documents by their places, ``(queries,)`` each."""
    ndcg, reciprocal = np.zeros(len(grades)), np.zeros(len(grades))
    for query, (places, relevant) in enumerate(zip(rankings, grades, strict=True)):
        ranking = [identifiers[place] for place in places]
        ndcg[query] = graded_ndcg(ranking, relevant, k)
        reciprocal[query] = next((1 / rank for rank, each in enumerate(ranking, start=1) if each in relevant), 0.0)
    return {f"nDCG@{k}": ndcg, f"recall@{k}": recall(rankings, identifiers, grades), f"MRR@{k}": reciprocal}


def recall(
    rankings: Sequence[Sequence[int]], identifiers: Sequence[str], grades: Sequence[Mapping[str, float]]
) -> NDArray[np.float64]:
    """Return the share of each query's relevant documents that its ranking has, ``(queries,)``."""
    return np.array(
        [
            sum(identifiers[place] in relevant for place in places) / len(relevant)
            for places, relevant in zip(rankings, grades, strict=True)
        ]
    )


def graded_ndcg(ranking: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Return the normalised discounted cumulative gain of ``ranking``, with a gain linear in the grade.

    Source: Järvelin and Kekäläinen (2002), as computed by trec_eval (which accepts integer grades only).
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = [grades.get(document, 0.0) for document in ranking[:k]]
    ideal = sorted(grades.values(), reverse=True)[:k]
    return float(gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)]))
