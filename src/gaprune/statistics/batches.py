"""Which triplets are measured together: batches, and the lengths of their texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import DataError
from gaprune.models.prompts import TASKS, Prompts, Role

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_AT_ONCE = 512
"""Texts whose tokens are counted together."""


@dataclass(frozen=True)
class Batch:
    """Triplets whose passages are each other's candidates, with the lengths of their texts in tokens."""

    triplets: Sequence[Triplet]
    queries: Sequence[int]
    passages: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Real tokens of all texts."""
        return sum(self.queries) + sum(map(sum, self.passages))

    @property
    def query_texts(self) -> list[str]:
        """Texts of the queries."""
        return [item.query for item in self.triplets]

    @property
    def passage_texts(self) -> list[str]:
        """Texts of the passages."""
        return [text for item in self.triplets for text in item.passages]

    def texts(self) -> Iterator[tuple[int, Role, str]]:
        """Yield length, role and text of everything that is read."""
        yield from ((length, "query", text) for length, text in zip(self.queries, self.query_texts, strict=True))
        lengths = [length for of_triplet in self.passages for length in of_triplet]
        yield from ((length, "passage", text) for length, text in zip(lengths, self.passage_texts, strict=True))

    @property
    def owners(self) -> list[int]:
        """Index of the triplet of each passage."""
        return [index for index, item in enumerate(self.triplets) for _ in item.passages]

    @property
    def sources(self) -> str:
        """Where its first triplets come from, in words."""
        named = [item.source for item in self.triplets if item.source]
        if not named:
            return f"{len(self.triplets)} triplets"
        return f"{', '.join(named[:4])}{', …' if len(named) > 4 else ''}"

    @property
    def longest(self) -> int:
        """Tokens of its longest triplet."""
        return max(query + sum(passages) for query, passages in zip(self.queries, self.passages, strict=True))

    def split(self, tokens: int) -> list[Batch]:
        """Return it in parts of neighbours with so many tokens at most, or of a single triplet with more.

        The last part, the one that need not be embedded beforehand, is filled first.
        """
        bounds, held = [len(self.triplets)], 0
        for index in range(len(self.triplets) - 1, -1, -1):
            each = self.queries[index] + sum(self.passages[index])
            if index + 1 < bounds[0] and held + each > tokens:
                bounds.insert(0, index + 1)
                held = 0
            held += each
        parts = [slice(start, end) for start, end in pairwise([0, *bounds])]
        return [Batch(self.triplets[part], self.queries[part], self.passages[part]) for part in parts]


def batches_of(
    model: SentenceTransformer, triplets: Triplets, prompts: Prompts, options: MeasurementOptions
) -> list[Batch]:
    """Return batches of triplets of like length and, within one, like size, in an order drawn from the seed."""
    import torch

    by_length = sorted(triplets, key=lambda item: sum(map(len, item.passages), len(item.query)))
    queries = _lengths(model, [item.query for item in by_length], "query", prompts)
    flat = iter(_lengths(model, [text for item in by_length for text in item.passages], "passage", prompts))
    passages = [[next(flat) for _ in item.passages] for item in by_length]
    count = math.ceil(len(by_length) / options.triplets_per_batch)
    bounds = [len(by_length) * index // count for index in range(count + 1)]
    parts = [slice(bounds[index], bounds[index + 1]) for index in range(count)]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(options.seed)).tolist()
    return [Batch(by_length[parts[i]], queries[parts[i]], passages[parts[i]]) for i in order]


def _lengths(model: SentenceTransformer, texts: Sequence[str], role: Role, prompts: Prompts) -> list[int]:
    """Return the number of tokens that the model reads of each text."""
    found: list[int] = []
    for start in range(0, len(texts), _AT_ONCE):
        features = model.preprocess(list(texts[start : start + _AT_ONCE]), prompt=prompts.of(role), task=TASKS[role])
        found += features["attention_mask"].sum(1).tolist()
    return found


def require_negatives(triplets: Triplets) -> None:
    """Refuse triplets without a negative, where a query's candidates are its own passages alone."""
    for item in triplets:
        if not item.negatives:
            raise DataError(
                "has no negative, and only explicit negatives are asked for.",
                "Leave negatives out, or mine some: --set mine_negatives=1.",
                source=item.source or triplets.name,
            )


def require_in_batch_negative(batches: Sequence[Batch], triplets: Triplets) -> None:
    """Refuse a pair alone in its batch: with its positive the only candidate, its loss is zero whatever happens."""
    for batch in batches:
        first = batch.triplets[0]
        if len(batch.triplets) == 1 and not first.negatives:
            raise DataError(
                "has no negative and is alone in its batch, so there is nothing to tell its positive from.",
                "Use batch_size=3 or more and at least two pairs, or mine negatives: --set mine_negatives=1.",
                source=first.source or triplets.name,
            )
