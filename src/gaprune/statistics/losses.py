"""The contrastive loss behind every gradient."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


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


def rademacher_probe(embeddings: Tensor, texts: Sequence[str], *, seed: int) -> Tensor:
    """Return the sum of random projections of normalised embeddings, one of each text.

    The signs of a projection are independent, so the mean of ``g gᵀ`` for gradients ``g`` of projections is
    ``Jᵀ J`` of the normalised embeddings: the curvature of half the squared distance between the embeddings of a
    model and of its parent, at the parent (Gauss-Newton). It needs no labels.

    Args:
        embeddings: ``(texts, dim)``.
        texts: What was embedded; a text is projected alike wherever it stands.
        seed: Of the signs.

    Returns:
        A scalar in fp32.

    Source:
        Hutchinson 1989 for the estimate; Martens and Grosse 2015 (arXiv 1503.05671), curvature from sampled outputs.
    """
    signs = torch.stack([_signs(text, embeddings.shape[1], seed) for text in texts]).to(embeddings.device)
    return (functional.normalize(embeddings.float(), dim=-1) * signs).sum()


def _signs(text: str, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(text.encode(), seed & 0xFFFFFFFF))
    return torch.randint(2, (count,), generator=generator, dtype=torch.float32) * 2 - 1
