"""Evaluators of sentence-transformers that check embeddings and leave the model unchanged.

This module imports sentence-transformers, so import it only when a task is evaluated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    TripletEvaluator,
)

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

__all__ = ["Binary", "Retrieval", "Similarity", "Triplet", "check_finite", "graded_ndcg"]


def check_finite(vectors: torch.Tensor | np.ndarray, task: str) -> None:
    """Check that all ``vectors`` (texts, dimensions) are finite.

    Raises:
        ModelError: If one contains NaN or infinity.
    """
    bad = int((~torch.isfinite(torch.as_tensor(vectors)).all(dim=1)).sum())
    if bad:
        raise ModelError(
            f"The model gives embeddings with NaN or infinity for {bad} of {len(vectors)} texts of the task {task}.",
            "Prune less, or load the model with dtype=float32.",
        )


class _Checked:
    """Encodes each text once, checks the embeddings, and does not write metrics to the model's card."""

    name: str

    def embed_inputs(self, model: SentenceTransformer, sentences: Any, *args: Any, **kwargs: Any) -> Any:
        places = {text: place for place, text in enumerate(dict.fromkeys(sentences))}
        vectors = super().embed_inputs(model, list(places), *args, **kwargs)  # type: ignore[misc]
        check_finite(vectors, self.name)
        if isinstance(vectors, torch.Tensor):
            vectors = vectors.float()  # half precision would make different similarities equal
        order = [places[text] for text in sentences]
        return vectors[order] if len(places) < len(order) else vectors

    def store_metrics_in_model_card_data(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, so that the model is unchanged and does not keep the evaluator alive."""


class Similarity(_Checked, EmbeddingSimilarityEvaluator):
    """Correlation of cosine similarity with graded scores."""


class Binary(_Checked, BinaryClassificationEvaluator):
    """Average precision of cosine similarity for pairs that match or do not match."""


class Triplet(_Checked, TripletEvaluator):
    """Accuracy in triplets, with prompts for both roles.

    Args:
        prompts: Prompt of the ``query`` and of the ``document``, empty for none.
        kwargs: Options of the evaluator.
    """

    def __init__(self, prompts: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prompts = prompts

    def embed_inputs(
        self, model: SentenceTransformer, sentences: Any, encode_fn_name: str | None = None, **kwargs: Any
    ) -> Any:
        """Encode with the prompt of the role, ``query`` or ``document``."""
        prompt = self.prompts[encode_fn_name or "query"]
        return super().embed_inputs(model, sentences, encode_fn_name=encode_fn_name, prompt=prompt, **kwargs)


class Retrieval(_Checked, InformationRetrievalEvaluator):
    """Retrieval with an nDCG that uses the grades of the judgements.

    Args:
        grades: Grade above 0 of each relevant document, by query and document.
        kwargs: Options of the evaluator.
    """

    def __init__(self, grades: Mapping[str, Mapping[str, float]], **kwargs: Any) -> None:
        super().__init__(relevant_docs={query: set(found) for query, found in grades.items()}, **kwargs)
        self.grades = grades

    def compute_metrics(self, queries_result_list: list[Any]) -> dict[str, dict[int, float]]:
        """Return the metrics of the rankings; nDCG uses grades, not only relevance."""
        metrics: dict[str, dict[int, float]] = super().compute_metrics(queries_result_list)
        for k in self.ndcg_at_k:
            found = [
                graded_ndcg([hit["corpus_id"] for hit in hits], self.grades[query], k)
                for query, hits in zip(self.queries_ids, queries_result_list, strict=True)
            ]
            metrics["ndcg@k"][k] = float(np.mean(found))
        return metrics


def graded_ndcg(ranking: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Return the normalised discounted cumulative gain of ``ranking``, with a gain linear in the grade.

    Source: Järvelin and Kekäläinen (2002), as computed by trec_eval (which accepts integer grades only).

    Args:
        ranking: Documents, best first.
        grades: Grade above 0 of each relevant document.
        k: Number of ranks that count.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = [grades.get(document, 0.0) for document in ranking[:k]]
    ideal = sorted(grades.values(), reverse=True)[:k]
    return float(gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)]))
