"""The plan of ``gaprune.shrink``: how long its stages take, by one measurement of the parent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gaprune.config.shrink import ShrinkOptions
from gaprune.data.read import read_triplets
from gaprune.errors import ConfigError
from gaprune.evaluation.cost.latency import measure_batch
from gaprune.models.blocks import blocks
from gaprune.models.checks import unstreamed
from gaprune.models.encode import encode
from gaprune.models.encoders import TorchModel
from gaprune.pipelines.domain_data import DomainData
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TRIPLETS = 512
"""Triplets of each data set that pruning is measured on."""

_PASSES_OVER_ALL, _PASSES_OF_A_LAYER, _FEW = 6.0, 3.5, 64
"""Forward passes that a pruning costs: over all calibration texts for measuring and reconstruction, and for each layer
of the parent over those of at most so many triplets of each data set, for the search."""

_FAR, _MOST = 0.5, 3
"""Fraction of the time or size left below which a target is reached in rounds, and how many there are at most."""

_ROUND = 0.4
"""What each further round adds, as a fraction of a pruning in one round."""

_BATCHES, _TEXTS = 70, 8
"""Measuring speeds takes the time of the parent for so many batches, of so many texts of 128 tokens."""

_TIMED = 64
_FEWEST_MINUTES = 1.0
"""Minutes of training below which a run is refused."""


class ShrinkPlan(Record):
    """How a run spends its time.

    Args:
        triplets: Triplets of each data set that pruning is measured on.
        rounds: Rounds in which layers and units are removed.
        pruning_minutes: Estimated minutes of pruning.
        judging_minutes: Estimated minutes of judging parent and child.
        training_minutes: What is left for training.
        least_minutes: Minutes that training gets even if pruning takes longer than estimated.
    """

    triplets: int
    rounds: int
    pruning_minutes: float
    judging_minutes: float
    training_minutes: float
    least_minutes: float = _FEWEST_MINUTES

    def check(self, asked: ShrinkOptions) -> None:
        """Check that there is time; a run that continues after its pruning needs no such estimate.

        Raises:
            ConfigError: If the time is too short for pruning and a minute of training.
        """
        if self.training_minutes < self.least_minutes:
            least = self.pruning_minutes + self.judging_minutes + self.least_minutes
            raise ConfigError(
                f"minutes: {asked.minutes:g} are too few: pruning takes about {self.pruning_minutes:.1f} minutes, "
                f"judging {self.judging_minutes:.1f}, and at least {self.least_minutes:g} are needed for training.",
                f"Give --minutes {math.ceil(least)} or more, or measure on fewer triplets, by a recipe with "
                f"prune: {{triplets: {max(16, self.triplets // 4)}}}.",
            )

    def lines(self, data: DomainData, asked: ShrinkOptions) -> Iterator[str]:
        """Yield what is said before the run starts."""
        labels = "given" if data.is_labelled else "made from documents, so there is no training on labels"
        yield (
            f"Data: {data.training_triplets:,} triplets ({labels}), {data.text_count:,} texts to distil on, "
            f"{data.held_out_queries:,} queries held out for judging."
        )
        yield from (f"Warning: {each}" for each in data.warnings)
        form = "PyTorch" if asked.runtime == "torch" else f"{asked.runtime} in int8"
        measured = "" if asked.speedup is None else f" (as measured in {form})"
        yield (
            f"Plan for {asked.target}{measured} within {asked.minutes:g} minutes: pruning in "
            f"{self.rounds} round{'s' * (self.rounds > 1)} about {self.pruning_minutes:.1f}, "
            f"training at most {self.training_minutes:.1f}, judging about {self.judging_minutes:.1f} minutes."
        )


def plan_shrink(parent: SentenceTransformer, data: DomainData, asked: ShrinkOptions) -> ShrinkPlan:
    """Return the plan for the time that is asked for, by timing the parent on some of the texts."""
    triplets = read_triplets(data.domain)
    count = int(asked.prune.get("triplets") or min(_TRIPLETS, len(triplets), len(read_triplets(data.general))))
    texts = [text for item in triplets for text in (item.query, *item.passages)][:_TIMED]
    encode(parent, texts[:8], None, None)
    began = time.perf_counter()
    encode(parent, texts, None, None)
    per_text = (time.perf_counter() - began) / len(texts) / 60
    per_triplet = sum(1 + len(item.passages) for item in triplets) / len(triplets)
    few = min(count, int(asked.prune.get("layer_triplets") or _FEW))
    passes = _PASSES_OVER_ALL * count + _PASSES_OF_A_LAYER * len(blocks(parent)) * few
    rounds = int(asked.prune.get("rounds") or _rounds(parent, asked))
    pruning = passes * 2 * per_triplet * per_text * (1 + _ROUND * (rounds - 1))
    if asked.speedup is not None:
        pruning += _BATCHES * measure_batch(TorchModel(parent), _TEXTS) / 60
    judging = 2 * per_text * _lines_of(data)
    return ShrinkPlan(
        triplets=count,
        rounds=rounds,
        pruning_minutes=pruning,
        judging_minutes=judging,
        training_minutes=asked.minutes - pruning - judging,
    )


def _rounds(parent: SentenceTransformer, asked: ShrinkOptions) -> int:
    """Return the rounds of a pruning: one up to half, then so many that each leaves two thirds of what was left.

    There are at most as many as were measured, and one where nothing is reconstructed.
    """
    weights = sum(each.numel() for each in parent.parameters())
    whole = {"parameters": weights, "size": sum(each.nbytes for each in parent.parameters())}
    target = asked.target
    left = 1 / target.limit if target.kind == "speedup" else target.limit / whole[target.kind]
    if left >= _FAR or asked.prune.get("reconstruct") is False or unstreamed(parent) is not None:
        return 1
    return min(_MOST, math.ceil(math.log(left) / math.log(2 / 3)))


def _lines_of(data: DomainData) -> int:
    """Return the number of texts of the held-out tasks."""
    files = data.tasks.rglob("*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)
