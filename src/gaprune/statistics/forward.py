"""Embeds the texts of a batch and passes to the hooks which token belongs to which triplet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.config.measurement import Precision
from gaprune.errors import MeasurementError
from gaprune.models.blocks import transformer_of
from gaprune.models.encode import tokenized
from gaprune.models.modes import computing
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.statistics.batches import Batch
from gaprune.statistics.hooks import HookContext, TokenRows
from gaprune.statistics.placement import device_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOKENS = {"cpu": (2048, 32)}
_MANY_TOKENS = 16384, 1024
"""Most tokens of a forward pass, padding included, and the number of tokens that cost as much as starting a pass.

On a CPU both are measured (13 ms per pass of six layers, 0.5 ms per token); elsewhere estimated from kernel launches.
"""


class Embedder:
    """Embeds the texts of a batch in forward passes of texts of similar length."""

    def __init__(
        self, model: SentenceTransformer, prompts: Prompts, context: HookContext, precision: Precision = "float32"
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.context = context
        self._precision = precision
        self.device = device_of(transformer_of(model).get_input_embeddings())
        self._limits = _TOKENS.get(self.device.type, _MANY_TOKENS)

    def passes(self, batch: Batch) -> int:
        """Return how many forward passes :meth:`both` makes for a batch."""
        passages = [length for lengths in batch.passages for length in lengths]
        return sum(len(groups_by_length(lengths, *self._limits)) for lengths in (batch.queries, passages))

    def both(self, batch: Batch, *, hooked: bool) -> tuple[Tensor, Tensor]:
        """Return the embeddings of queries ``(triplets, dim)`` and passages ``(passages, dim)``."""
        lengths = [length for of_triplet in batch.passages for length in of_triplet]
        queries = list(range(len(batch.triplets)))
        return (
            self._embed(batch.query_texts, batch.queries, queries, "query", hooked=hooked),
            self._embed(batch.passage_texts, lengths, batch.owners, "passage", hooked=hooked),
        )

    def _embed(
        self, texts: Sequence[str], lengths: Sequence[int], owners: Sequence[int], role: Role, *, hooked: bool
    ) -> Tensor:
        groups = [sorted(group) for group in groups_by_length(lengths, *self._limits)]
        found = []
        for group in groups:
            whose = [owners[index] for index in group] if hooked else None
            found.append(self.forward([texts[index] for index in group], role, whose, last=owners[-1]))
        if len(groups) == 1:
            return found[0]
        order = torch.tensor([index for group in groups for index in group], device=self.device)
        return torch.cat(found).index_select(0, order.argsort())

    def forward(self, texts: list[str], role: Role, owners: Sequence[int] | None = None, last: int = 0) -> Tensor:
        """Return the embeddings of texts of one role; without ``owners`` (triplets) the hooks are not told."""
        features = tokenized(self.model, texts, role, self.prompts.of(role), self.device)
        if owners is not None:
            mask = features["attention_mask"].bool()
            self.context.texts = TokenRows(mask, torch.tensor(owners, device=mask.device), last + 1)
        try:
            with computing(self.device, self._precision):
                embeddings: Tensor = self.model(features, task=TASKS[role])["sentence_embedding"]
        except IndexError as error:
            raise MeasurementError(
                f"A {role} has a token, or a place for one, of which the model has no row ({error}).",
                "Give the model its own tokenizer, or give every token a row (transformers: resize_token_embeddings).",
            ) from error
        finally:
            self.context.texts = None
        if not torch.isfinite(embeddings).all():
            raise MeasurementError(
                f"The embedding of a {role} is not finite.",
                "Load the model in float32 or bfloat16 (--set dtype=float32), and check its weights and these texts.",
            )
        return embeddings if self.model.truncate_dim is None else embeddings[:, : self.model.truncate_dim]

    def idle(self, passes: int) -> Tensor | int:
        """Return a zero that depends on so many forward passes of a text that is not measured.

        All processes of a sharded model have to make the same number of passes.
        """
        return sum(self.forward(["a"], "query").sum() * 0 for _ in range(passes))


def groups_by_length(lengths: Sequence[int], tokens: int, overhead: int) -> list[list[int]]:
    """Return the indices of texts in groups of similar length, one forward pass each.

    A group is padded to its longest text. The next shorter text joins it unless the group would have more than
    ``tokens`` then, or its padding would cost more than a forward pass of its own.

    Args:
        lengths: Tokens of each text.
        tokens: Most tokens of a group of several texts.
        overhead: Tokens that cost as much as starting a forward pass.
    """
    groups: list[list[int]] = []
    longest = padding = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        padding += longest - lengths[index]
        if not groups or (len(groups[-1]) + 1) * longest > tokens or padding > overhead:
            groups.append([])
            longest, padding = lengths[index], 0
        groups[-1].append(index)
    return groups
