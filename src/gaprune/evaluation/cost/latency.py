"""The time that encoding takes: several models in turn, in one process, with medians and quartiles.

``torch.utils.benchmark.Timer`` would warm up before every single measurement of models that take turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from gaprune.errors import ConfigError
from gaprune.evaluation.cost.workload import Workload, texts_of_length
from gaprune.models.encoders import Encoder
from gaprune.util.progress import track
from gaprune.util.records import Record

_LENGTHS = {"latency": 32, "throughput": 128}
"""Tokens per text: of one query, and of a batch of passages."""

_PRECISE, _REPEATS = 0.025, 4
"""Standard error of a speedup that is small enough, and how often the rounds are repeated at most to reach it."""


@dataclass(frozen=True)
class Timing:
    """The time of one model for one batch, from texts to embeddings, tokenisation included.

    Args:
        batch_size: Texts per batch.
        length: Tokens per text that were asked for.
        tokens: Tokens of the batch as this model reads it.
        seconds: Every measurement, in order.
    """

    batch_size: int
    length: int
    tokens: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds per batch."""
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the seconds per batch; half of all measurements lie between them."""
        first, _, third = quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def texts_per_second(self) -> float:
        """Texts per second at the median."""
        return self.batch_size / self.median

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        measures = {"median_seconds": self.median, "quartiles_seconds": list(self.quartiles)}
        return {**asdict(self), **measures, "texts_per_second": self.texts_per_second}


def check_lengths(models: Mapping[Path, Encoder], lengths: Sequence[int]) -> None:
    """Refuse texts that a model would truncate, because it would look faster than it is.

    Raises:
        ConfigError: If a length is beyond the limit of a model.
    """
    for folder, model in models.items():
        if model.max_length is not None and max(lengths) > model.max_length:
            raise ConfigError(
                f"lengths: {max(lengths)} tokens are more than the limit of {folder} ({model.max_length}).",
                "Name shorter ones: --lengths 32,128.",
            )


@contextmanager
def computing_with(threads: int | None) -> Iterator[int]:
    """Let PyTorch compute with this many threads inside the block; yields the number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


def time_models(
    models: Sequence[Encoder], workload: Workload, *, clock: Callable[[], float] = time.perf_counter
) -> list[tuple[Timing, ...]]:
    """Return the timings of every model, in the order of ``models``, by length and batch size.

    All models get the same texts, whose length is measured by the last model's tokenizer. Within a round the models
    take turns, and the order is reversed in every other round, so that a machine that slows down slows all of them.
    """
    last = models[-1]
    texts = {length: texts_of_length(length, max(workload.batch_sizes), last.lengths) for length in workload.lengths}
    cells = [(length, size) for length in workload.lengths for size in workload.batch_sizes]
    found: list[list[Timing]] = [[] for _ in models]
    for length, size in cells:
        batch = texts[length][:size]
        seconds: list[list[float]] = [[] for _ in models]
        for model in models:
            model.encode(batch, prompt="", batch_size=size)
        for round_ in track(range(workload.rounds), f"Timing {size} x {length} tokens, rounds"):
            turn = list(range(len(models)))
            for index in turn if round_ % 2 == 0 else reversed(turn):
                start = clock()
                models[index].encode(batch, prompt="", batch_size=size)
                seconds[index].append(clock() - start)
        for index, model in enumerate(models):
            found[index].append(Timing(size, length, sum(model.lengths(batch)), tuple(seconds[index])))
    return [tuple(each) for each in found]


class Speed(Record):
    """A child beside its parent, measured in turn in one process.

    Args:
        latency: Median time of the parent for one text of 32 tokens, divided by the child's.
        throughput: The same for 32 texts of 128 tokens.
        milliseconds: Median of parent and child for one text of 32 tokens.
        texts_per_second: Of parent and child, for 32 texts of 128 tokens.
        error: Relative standard error of the speedup, by how much the ratio scatters between rounds; 0 if unknown.
    """

    latency: float
    throughput: float
    milliseconds: tuple[float, float]
    texts_per_second: tuple[float, float]
    error: float = 0.0

    @property
    def speedup(self) -> float:
        """The geometric mean of both ratios: how many times faster the child is for queries and passages together."""
        return math.sqrt(self.latency * self.throughput)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the speedup, by its standard error."""
        return self.speedup * math.exp(-2 * self.error), self.speedup * math.exp(2 * self.error)

    @property
    def scatters(self) -> bool:
        """Whether the rounds differ so much that the speedup is uncertain, as they do while other programs run."""
        return self.error > _PRECISE


def measure_speed(child: Encoder, parent: Encoder, *, rounds: int = 10, texts: int = 32) -> Speed:
    """Measure the speed of a child beside its parent.

    If the ratio scatters between the rounds, as it does while other programs run, there are up to four times as many.

    Args:
        child: The smaller model.
        parent: The model that it came from.
        rounds: How often each is timed.
        texts: Texts of the batch of passages; fewer take less time.
    """
    found: dict[str, tuple[Timing, Timing]] = {}
    for _ in range(_REPEATS):
        for name in _LENGTHS:
            ((mine,), (its,)) = time_models([child, parent], _workload(name, [child, parent], rounds, texts))
            before = found.get(name)
            found[name] = (its, mine) if before is None else (_joined(before[0], its), _joined(before[1], mine))
        error = math.hypot(*(_error(*each) for each in found.values())) / len(found)
        if error <= _PRECISE:
            break
    single, batch = found["latency"], found["throughput"]
    return Speed(
        latency=single[0].median / single[1].median,
        throughput=batch[0].median / batch[1].median,
        milliseconds=(1000 * single[0].median, 1000 * single[1].median),
        texts_per_second=(batch[0].texts_per_second, batch[1].texts_per_second),
        error=error,
    )


def _joined(earlier: Timing, later: Timing) -> Timing:
    return replace(later, seconds=(*earlier.seconds, *later.seconds))


def _error(parent: Timing, child: Timing) -> float:
    """Return the relative standard error of the ratio of two medians, by the quartiles of the ratios of rounds.

    Of normal numbers the quartiles are 1.35 standard deviations apart, and the error of a median is 1.25 times that of
    a mean.
    """
    ratios = [math.log(one / other) for one, other in zip(parent.seconds, child.seconds, strict=True)]
    if len(ratios) < 2:
        return 0.0
    first, _, third = quantiles(ratios, n=4, method="inclusive")
    return 1.25 * (third - first) / 1.35 / math.sqrt(len(ratios))


def measure_batch(model: Encoder, texts: int) -> float:
    """Return the seconds that a model takes for a batch of so many passages, after one to warm up."""
    ((timing,),) = time_models([model], _workload("throughput", [model], 2, texts))
    return min(timing.seconds)


def _workload(name: str, models: Sequence[Encoder], rounds: int, texts: int) -> Workload:
    length = _LENGTHS[name]
    batch_size = 1 if name == "latency" else texts
    longest = min(each.max_length or math.inf for each in models)
    return Workload.build({"batch_sizes": (batch_size,), "lengths": (int(min(length, longest)),), "rounds": rounds})
