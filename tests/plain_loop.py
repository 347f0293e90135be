"""Statistics and losses by brute force: one text at a time, no padding, no gradient hooks, weights differentiated."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.data.triplets import Triplet, Triplets
from gaprune.models.linear_layers import LinearLayer, linear_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PlainLoop", "close", "joint_loss", "reached"]


def reached(model: SentenceTransformer) -> list[LinearLayer]:
    """All linear layers of a tiny model but the pooler that its embedding does not use."""
    return [linear for linear in linear_layers(model) if not linear.name.startswith("pooler")]


def close(actual: Tensor, expected: Tensor, tolerance: float = 2e-4) -> None:
    """Assert closeness relative to each value and, for those near zero, to the largest."""
    largest = expected.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(actual.double(), expected.double(), rtol=tolerance, atol=tolerance * largest)


def joint_loss(weight: Tensor, second_moments: Tensor, keep: Tensor) -> Tensor:
    """Return the mean square of the change of each row's output, ``(out,)``."""
    pruned = torch.where(keep, 0, weight)
    return ((pruned @ second_moments) * pruned).sum(1)


class PlainLoop:
    """Reference statistics of a model, computed in double precision on a copy of it.

    Args:
        model: The model; it is copied.
        temperature: Of the loss.
        query: Prompt put before queries by hand.
        passage: Prompt put before passages by hand.
    """

    def __init__(
        self, model: SentenceTransformer, *, temperature: float = 0.05, query: str = "", passage: str = ""
    ) -> None:
        self.model = copy.deepcopy(model).double().eval().requires_grad_(requires_grad=True)
        self.temperature = temperature
        self.query, self.passage = query, passage
        self.linear_layers = reached(self.model)
        self.weights = [linear.module.weight for linear in self.linear_layers]

    def embed(self, text: str) -> Tensor:
        """Return the embedding ``(dim,)`` of one text."""
        embedding = self.model(self.model.preprocess([text]))["sentence_embedding"][0]
        return embedding[: self.model.truncate_dim]

    def texts(self, item: Triplet) -> list[str]:
        """Return query, positive and negatives with their prompts."""
        return [self.query + item.query, *(self.passage + passage for passage in item.passages)]

    def loss(self, query: Tensor, candidates: Sequence[Tensor], positive: int) -> Tensor:
        """Return -log softmax of the positive's scaled cosine."""
        scaled = torch.stack([query @ one / (query.norm() * one.norm()) for one in candidates]) / self.temperature
        return torch.logsumexp(scaled, 0) - scaled[positive]

    def explicit(self, triplets: Triplets) -> dict[str, Tensor]:
        """Gradients ``(triplets, out, in)`` of every triplet's own loss, by name."""
        rows = []
        for item in triplets:
            query, *passages = map(self.embed, self.texts(item))
            rows.append(self._gradients(self.loss(query, passages, 0)))
        return self._stacked(rows)

    def in_batch(self, batch: Triplets) -> dict[str, Tensor]:
        """Gradients of the summed loss with one triplet's embeddings attached and all others detached."""
        embedded = [[self.embed(text) for text in self.texts(item)] for item in batch]
        rows = []
        for attached in range(len(batch)):
            seen = [[one if index == attached else one.detach() for one in row] for index, row in enumerate(embedded)]
            rows.append(self._gradients(self._summed(seen), keep=True))
        return self._stacked(rows)

    def whole(self, batch: Triplets) -> dict[str, Tensor]:
        """Gradient ``(out, in)`` of the summed in-batch loss, nothing detached."""
        gradients = self._gradients(self._summed([[self.embed(text) for text in self.texts(item)] for item in batch]))
        return {linear.name: gradient for linear, gradient in zip(self.linear_layers, gradients, strict=True)}

    def inputs(self, triplets: Triplets) -> dict[str, Tensor]:
        """Inputs ``(tokens, in)`` of every linear layer over all texts, each run alone and so without padding."""
        seen: dict[str, list[Tensor]] = {linear.name: [] for linear in self.linear_layers}
        handles = [
            linear.module.register_forward_pre_hook(
                lambda module, args, name=linear.name: seen[name].append(
                    args[0].detach().reshape(-1, module.in_features)
                )
            )
            for linear in self.linear_layers
        ]
        for item in triplets:
            for text in self.texts(item):
                self.embed(text)
        for handle in handles:
            handle.remove()
        return {name: torch.cat(rows) for name, rows in seen.items()}

    def _summed(self, embedded: list[list[Tensor]]) -> Tensor:
        candidates = [one for row in embedded for one in row[1:]]
        starts = [sum(len(row) - 1 for row in embedded[:index]) for index in range(len(embedded))]
        losses = [self.loss(row[0], candidates, start) for row, start in zip(embedded, starts, strict=True)]
        return torch.stack(losses).sum()

    def _gradients(self, loss: Tensor, *, keep: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, self.weights, retain_graph=keep)

    def _stacked(self, rows: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        return {
            linear.name: torch.stack(parts)
            for linear, parts in zip(self.linear_layers, zip(*rows, strict=True), strict=True)
        }
