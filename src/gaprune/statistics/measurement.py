"""What is measured, of which model, on which batches: what planning and every pass have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplets
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.prompts import Prompts
from gaprune.statistics.accumulators import BACKWARD, PROJECTED
from gaprune.statistics.batches import Batch, batches_of, require_in_batch_negative, require_negatives
from gaprune.statistics.losses import info_nce, rademacher_probe
from gaprune.statistics.sums import Statistic

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Measurement:
    """A measurement with one kind of backward pass, or none."""

    model: SentenceTransformer
    triplets: Triplets
    linear_layers: Sequence[LinearLayer]
    statistics: frozenset[Statistic]
    prompts: Prompts
    options: MeasurementOptions
    label: str
    batches: Sequence[Batch]

    @classmethod
    def of(
        cls,
        model: SentenceTransformer,
        triplets: Triplets,
        linear_layers: Sequence[LinearLayer],
        statistics: frozenset[Statistic],
        prompts: Prompts,
        options: MeasurementOptions,
        label: str,
    ) -> Measurement:
        """Return the measurement in batches.

        Raises:
            DataError: If the triplets cannot be measured as the options say.
        """
        contrastive = bool((BACKWARD - PROJECTED) & statistics)
        if contrastive and options.negatives == "explicit":
            require_negatives(triplets)
        batches = batches_of(model, triplets, prompts, options)
        if contrastive and options.negatives == "in-batch":
            require_in_batch_negative(batches, triplets)
        return cls(model, triplets, linear_layers, statistics, prompts, options, label, batches)

    @property
    def backward(self) -> bool:
        """Whether there is a backward pass at all."""
        return bool(BACKWARD & self.statistics)

    @property
    def projected(self) -> bool:
        """Whether gradients are those of random projections of embeddings, not of the contrastive loss."""
        return bool(PROJECTED & self.statistics)

    @property
    def over_batch(self) -> bool:
        """Whether the part of a triplet depends on the other triplets of its batch."""
        return self.options.negatives == "in-batch" and not self.projected

    def loss(self, queries: Tensor, passages: Tensor, batch: Batch) -> Tensor:
        """Return what is differentiated, summed over a batch, of embeddings ``(texts, dim)``."""
        if self.projected:
            embeddings = torch.cat([queries, passages])
            return rademacher_probe(embeddings, [*batch.query_texts, *batch.passage_texts], seed=self.options.seed)
        owners = torch.tensor(batch.owners, device=passages.device)
        temperature = self.options.temperature
        return info_nce(queries, passages, owners, temperature=temperature, in_batch=self.over_batch).sum()

    def origin(self) -> dict[str, object]:
        """Return all that the sums depend on, except for the model's weights, with the names of the options."""
        return {
            "triplets": self.triplets.fingerprint,
            "prompts": [self.prompts.query, self.prompts.passage],
            "linear layers": [
                [each.name, each.columns_per_unit, *each.module.weight.shape] for each in self.linear_layers
            ],
            "statistics": sorted(self.statistics),
            "max_length": self.model.max_seq_length,
            "truncate_dim": self.model.truncate_dim,
            "fisher": self.options.fisher,
            "negatives": self.options.negatives,
            "temperature": self.options.temperature,
            "precision": self.options.precision,
            "batch size": self.options.triplets_per_batch,
            "seed": self.options.seed,
        }


def by_backward(statistics: Collection[Statistic], label: str) -> dict[str, frozenset[Statistic]]:
    """Return the statistics that one backward pass can give together, by the name shown for their data."""
    wanted = frozenset(statistics)
    projected = wanted & PROJECTED
    if projected and wanted & (BACKWARD - PROJECTED):
        return {label: wanted - projected, f"{label}, embeddings": projected}
    return {label: wanted}
