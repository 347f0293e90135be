"""The loss of recovery: the contrastive loss of sentence-transformers, and the distance to the parent.

This module imports sentence-transformers: import it only to train.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import all_gather, all_gather_with_grad
from torch import Tensor
from torch.nn import functional

from gaprune.config.recovery import RecoveryOptions
from gaprune.recovery.teacher import Teacher

_CUT = 10
"""Ranks that count in nDCG."""


def embedding_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of ``1 - cosine`` between embeddings ``(texts, dim)`` of the same texts.

    It is half of the square of the L2 distance between the embeddings at unit length.
    """
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def similarity_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean square difference between the cosine similarities of all pairs of different texts.

    Source:
        Tung and Mori, Similarity-Preserving Knowledge Distillation (arXiv 1907.09682), on cosine similarities.
    """
    student, teacher = functional.normalize(student, dim=-1), functional.normalize(teacher, dim=-1)
    difference = student @ student.T - teacher @ teacher.T
    others = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    return difference[others].square().mean()


def pair_ndcg(queries: Tensor, passages: Tensor) -> float:
    """Return nDCG@10 of queries ``(pairs, dim)`` among all passages ``(pairs, dim)``; a query's own is relevant."""
    cosines = functional.normalize(queries, dim=-1) @ functional.normalize(passages, dim=-1).T
    ranks = (cosines > cosines.diagonal()[:, None]).sum(1)
    return float((torch.where(ranks < _CUT, 1 / torch.log2(ranks + 2.0), 0.0)).mean())


class RecoveryLoss:
    """The weighted terms of the loss; ``gather`` says whether several processes share a batch.

    ``looked`` has the embeddings of the held-out pairs of a distillation on texts, as far as they were looked at.
    """

    def __init__(self, options: RecoveryOptions, teacher: Teacher | None, *, gather: bool) -> None:
        self.options, self.teacher, self.gather = options, teacher, gather
        self.looked: list[Tensor] = []

    def ndcg(self) -> float | None:
        """Return the nDCG of the held-out pairs that were looked at, and forget them; ``None`` if there are none."""
        if not self.looked:
            return None
        queries, passages = torch.cat(self.looked).unbind(1)
        self.looked.clear()
        return pair_ndcg(queries, passages)

    def candidates(self, embeddings: list[Tensor], labels: Tensor | None) -> list[Tensor]:
        """Return what the contrastive loss compares: the model's embeddings, or its queries and fixed passages."""
        if not self.options.fixed_targets or self.teacher is None or labels is None:
            return embeddings
        fixed = self.teacher.of_rows(labels, embeddings[0]).unbind(1)
        return [embeddings[0], *fixed[1:]]

    def terms(self, embeddings: list[Tensor], labels: Tensor | None, contrastive: Tensor | None) -> dict[str, Tensor]:
        """Return the weighted terms by name.

        Args:
            embeddings: Of a batch ``(batch, dim)``, one tensor per column.
            labels: Rows of the teacher's embeddings, ``(batch, columns)``.
            contrastive: The contrastive loss, unweighted; ``None`` if it has no weight.
        """
        options = self.options
        found = {} if contrastive is None else {"contrastive": options.contrastive_weight * contrastive}
        if self.teacher is None or labels is None:
            return found
        student = torch.cat(embeddings).float()
        teacher = self.teacher.of_rows(labels, student).transpose(0, 1).flatten(0, 1)
        if options.texts is not None and not torch.is_grad_enabled():  # a distillation is judged by the cosine alone
            pairs = torch.stack(embeddings, dim=1).float()
            self.looked.append(all_gather(pairs) if self.gather else pairs)
            return {"embedding": embedding_distance(student, teacher)}
        if options.embedding_weight:
            found["embedding"] = options.embedding_weight * embedding_distance(student, teacher)
        if options.similarity_weight:
            if self.gather:
                student, teacher = all_gather_with_grad(student), all_gather(teacher)
            found["similarity"] = options.similarity_weight * similarity_distance(student, teacher)
        return found


class PlainLoss(MultipleNegativesRankingLoss):
    """All terms from one forward pass over the batch; the trainer adds them and logs each by its name.

    Of embeddings, those dimensions count that the model gives (its ``truncate_dim``).
    """

    def __init__(self, model: SentenceTransformer, loss: RecoveryLoss, **options: Any) -> None:
        super().__init__(model, **options)
        self.recovery, self.dimensions = loss, model.truncate_dim

    def compute_loss_from_embeddings(  # type: ignore[override] # the trainer adds and logs terms by name
        self, embeddings: list[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the loss."""
        embeddings = [each[:, : self.dimensions] for each in embeddings]
        weighted = self.recovery.options.contrastive_weight > 0
        compared = self.recovery.candidates(embeddings, labels)
        contrastive = super().compute_loss_from_embeddings(compared, labels) if weighted else None
        return self.recovery.terms(embeddings, labels, contrastive)


class CachedLoss(CachedMultipleNegativesRankingLoss):
    """The sum of the same terms with gradients cached at the embeddings, in the memory of a mini-batch."""

    def __init__(self, model: SentenceTransformer, loss: RecoveryLoss, **options: Any) -> None:
        super().__init__(model, **options)
        self.recovery, self.dimensions = loss, model.truncate_dim

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Return the sum of the terms from the embeddings of all mini-batches."""
        weighted = self.recovery.options.contrastive_weight > 0
        embeddings = [torch.cat(each)[:, : self.dimensions] for each in reps]
        compared = [[each] for each in self.recovery.candidates(embeddings, labels)]
        contrastive = super().calculate_loss(compared, labels) if weighted else None
        terms = self.recovery.terms(embeddings, labels, contrastive)
        loss = torch.stack(list(terms.values())).sum()
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        return loss


def make_loss(model: SentenceTransformer, loss: RecoveryLoss) -> PlainLoss | CachedLoss:
    """Return the loss as the trainer takes it."""
    options = loss.options
    common = {"scale": 1 / options.temperature, "gather_across_devices": loss.gather}
    if options.mini_batch_size is None:
        return PlainLoss(model, loss, **common)
    return CachedLoss(model, loss, mini_batch_size=options.mini_batch_size, **common)
