"""How many times faster a child is than its parent, as one measured number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gaprune.evaluation.cost.latency import time_models
from gaprune.evaluation.cost.workload import Workload
from gaprune.models.encoders import Encoder
from gaprune.util.records import Record

_LENGTHS = {"latency": 32, "throughput": 128}
"""Tokens per text: of one query, and of a batch of passages."""


class Speed(Record):
    """A child beside its parent, measured in turn in one process.

    Args:
        latency: Median time of the parent for one text of 32 tokens, divided by the child's.
        throughput: The same for 32 texts of 128 tokens.
        milliseconds: Median of parent and child for one text of 32 tokens.
        texts_per_second: Of parent and child, for 32 texts of 128 tokens.
    """

    latency: float
    throughput: float
    milliseconds: tuple[float, float]
    texts_per_second: tuple[float, float]

    @property
    def speedup(self) -> float:
        """The geometric mean of both ratios: how many times faster the child is for queries and passages together."""
        return math.sqrt(self.latency * self.throughput)


def measure_speed(child: Encoder, parent: Encoder, *, rounds: int = 10, texts: int = 32) -> Speed:
    """Measure the speed of a child beside its parent.

    Args:
        child: The smaller model.
        parent: The model that it came from.
        rounds: How often each is timed.
        texts: Texts of the batch of passages; fewer take less time.
    """
    found = {}
    for name in _LENGTHS:
        ((mine,), (its,)) = time_models([child, parent], _workload(name, [child, parent], rounds, texts))
        found[name] = (its, mine)
    single, batch = found["latency"], found["throughput"]
    return Speed(
        latency=single[0].median / single[1].median,
        throughput=batch[0].median / batch[1].median,
        milliseconds=(1000 * single[0].median, 1000 * single[1].median),
        texts_per_second=(batch[0].texts_per_second, batch[1].texts_per_second),
    )


def measure_batch(model: Encoder, texts: int) -> float:
    """Return the seconds that a model takes for a batch of so many passages, after one to warm up."""
    ((timing,),) = time_models([model], _workload("throughput", [model], 2, texts))
    return min(timing.seconds)


def _workload(name: str, models: Sequence[Encoder], rounds: int, texts: int) -> Workload:
    length = _LENGTHS[name]
    batch_size = 1 if name == "latency" else texts
    longest = min(each.max_length or math.inf for each in models)
    return Workload.build({"batch_sizes": (batch_size,), "lengths": (int(min(length, longest)),), "rounds": rounds})
