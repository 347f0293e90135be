"""The contrastive loss behind every gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["info_nce"]


def info_nce(queries: Tensor, passages: Tensor, owners: Tensor, *, temperature: float, in_batch: bool) -> Tensor:
    """Return the InfoNCE loss of every query on cosine similarities.

    Args:
        queries: Embeddings ``(triplets, dim)``.
        passages: Embeddings ``(passages, dim)``; the first passage of each triplet is its positive.
        owners: Index of the triplet that each passage belongs to, ``(passages,)``, ascending.
        temperature: Divides the similarities; 0.05 is the paper's scale of 20.
        in_batch: Whether the passages of other triplets are candidates too.

    Returns:
        Losses ``(triplets,)`` in fp32; they are not averaged.

    Source:
        van den Oord et al. 2018 (arXiv 1807.03748); GAPrune, arXiv 2509.10844, section 3.
    """
    similarities = functional.normalize(queries.float(), dim=-1) @ functional.normalize(passages.float(), dim=-1).T
    logits = similarities / temperature
    rows = torch.arange(len(queries), device=logits.device)
    if not in_batch:
        logits = logits.masked_fill(owners[None, :] != rows[:, None], -torch.inf)
    positives = torch.searchsorted(owners, rows)
    return functional.cross_entropy(logits, positives, reduction="none")
