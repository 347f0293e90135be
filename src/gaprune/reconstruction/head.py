"""Linear heads: one that brings a child's embeddings into its parent's space, and one that shortens embeddings.

A head is what :mod:`gaprune.models.heads` says; here are its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.encode import encode_tensor
from gaprune.models.heads import dense_head, head_place
from gaprune.reconstruction.least_squares import fit_columns
from gaprune.reconstruction.moments import MomentAccumulator, Moments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

    from gaprune.models.prompts import Prompts, Role

_RIDGE = 0.1
"""The best of five powers of ten for 64 to 256 triplets by the cosine of held-out ones (docs/keep-index.md)."""


def fit_head(
    child: SentenceTransformer,
    parent: SentenceTransformer,
    texts: Mapping[Role, Sequence[str]],
    *,
    prompts: Prompts,
    parent_prompts: Prompts | None = None,
    ridge: float = _RIDGE,
) -> Dense:
    """Return the linear map from a child's embeddings to its parent's, by ridge regression on pairs of embeddings.

    With ``e`` the child's embedding of a text, divided by the length of the parent's, and ``p`` the direction of the
    parent's, both before a last normalisation, ``W`` minimises

        E |W e - p|² + ridge · Σ_j E(e_j²) |W_j - V_j|²

    where ``V`` is the identity if the widths are equal, else zero. Queries count as much as passages, however many
    there are of each.

    Args:
        child: The child, whose embeddings are ``(texts, in)``; it is not changed.
        parent: The parent, whose embeddings are ``(texts, out)``.
        texts: Texts of the domain by role; a role may be missing.
        prompts: Put before queries and passages.
        parent_prompts: Those of the parent, if they differ.
        ridge: Pull towards ``V``, relative to the second moment of each input.

    Returns:
        A module with a weight of ``(out, in)``, for ``add_head``.

    Raises:
        ConfigError: If there are no texts.
        MeasurementError: If embeddings are not finite, or the least squares cannot be solved.
    """
    found = [
        _moments(_embed(child, each, role, prompts), _embed(parent, each, role, parent_prompts or prompts))
        for role, each in texts.items()
        if each
    ]
    if not found:
        raise ConfigError("texts: there are none to fit a head on.", "Name texts of the domain.")
    moments = found[0] if len(found) == 1 else found[0].mixed(found[1], 0.5)
    start = _start(len(moments.gap), len(moments.mean))
    every = torch.ones(start.shape[1], dtype=torch.bool, device=moments.mean.device)
    weight, _ = fit_columns(start.to(moments.mean), None, moments, every, ridge=ridge, name="head")
    return dense_head(weight, child)


def pca_head(
    model: SentenceTransformer, texts: Mapping[Role, Sequence[str]], dimensions: int, *, prompts: Prompts
) -> Dense:
    """Return the linear map to the ``dimensions`` that keep most of the inner products of a domain's embeddings.

    Its rows are the first eigenvectors of the second moments of normalised embeddings: no other projection leaves
    less of their Gram matrix behind (Eckart and Young 1936). Queries count as much as passages.

    Args:
        model: The model, whose embeddings are ``(texts, in)``; it is not changed.
        texts: Texts of the domain by role; a role may be missing.
        dimensions: Number of dimensions, fewer than the model has and at most as many as there are texts.
        prompts: Put before queries and passages.

    Returns:
        A module with a weight of ``(dimensions, in)`` with orthonormal rows; ``add_head`` puts it into a model.

    Raises:
        ConfigError: If ``dimensions`` is not below the model's, or there are fewer texts.
        MeasurementError: If embeddings are not finite.
    """
    _check_dimensions(model, dimensions)
    count = sum(map(len, texts.values()))
    if count < dimensions:
        raise ConfigError(
            f"dimensions: {count} texts do not determine {dimensions} dimensions.",
            "Name more texts of the domain, or fewer dimensions.",
        )
    unit = [functional.normalize(_embed(model, each, role, prompts)) for role, each in texts.items() if each]
    second = torch.stack([each.T @ each / len(each) for each in unit]).mean(dim=0)
    vectors: Tensor = torch.linalg.eigh(second).eigenvectors
    return dense_head(vectors.flip(1)[:, :dimensions].T, model)


def truncation_head(model: SentenceTransformer, dimensions: int) -> Dense:
    """Return the linear map to the first ``dimensions`` of the embeddings, for ``add_head``.

    Raises:
        ConfigError: If ``dimensions`` is not below the model's.
    """
    return dense_head(torch.eye(dimensions, _check_dimensions(model, dimensions)), model)


def _check_dimensions(model: SentenceTransformer, dimensions: int) -> int:
    """Return how many dimensions the embeddings have, which must be more."""
    own = model.get_embedding_dimension()
    if own is None or not 0 < dimensions < own:
        raise ConfigError(
            f"dimensions: {dimensions} is not between 1 and {(own or 1) - 1}: the model's embeddings have {own}.",
            "Name fewer dimensions.",
        )
    return own


def _embed(model: SentenceTransformer, texts: Sequence[str], role: Role, prompts: Prompts) -> Tensor:
    """Return the embeddings before a last normalisation, ``(texts, dim)`` in fp64 on the CPU."""
    from sentence_transformers import SentenceTransformer

    modules: list[Any] = list(model)[: head_place(model)]
    bare = SentenceTransformer(modules=modules, device=str(model.device), similarity_fn_name="cosine")
    found = encode_tensor(bare, texts, role, prompts).double().cpu()
    if not torch.isfinite(found).all():
        raise MeasurementError(
            "A head cannot be fitted: the model gives embeddings that are not finite.",
            "Load it in another dtype (--set dtype=float32).",
        )
    return found


def _moments(inputs: Tensor, targets: Tensor) -> Moments:
    """Return the moments of a role's pairs, every text divided by the length of its target."""
    lengths = targets.norm(dim=1, keepdim=True)
    inputs, targets = inputs / lengths, targets / lengths
    sums = MomentAccumulator()
    sums.add(inputs, inputs @ _start(targets.shape[1], inputs.shape[1]).to(inputs).T, targets)
    return sums.moments()


def _start(outputs: int, inputs: int) -> Tensor:
    """Return what the ridge pulls towards."""
    return torch.eye(outputs) if outputs == inputs else torch.zeros(outputs, inputs)
