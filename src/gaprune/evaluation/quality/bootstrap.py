"""Whether one model is better than another in tasks, or by chance: the paired bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gaprune.util.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.evaluation.quality.task import Task

_RESAMPLES = 1000
_NUMBERS = 2**22
"""Of an array of draws at most, which is 32 MiB."""


class Difference(Record):
    """How much higher the mean over tasks of one model is than another's, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    tasks: Sequence[Task],
    first: Sequence[Evaluation],
    second: Evaluation | Sequence[Evaluation],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Return the difference of the mean over tasks between a model and another, and its 95 % interval.

    Queries, pairs and texts of each task are drawn with replacement, the same for all models. Of a model that was made
    several times, say from several calibration samples, every draw gives the mean of its metrics. The interval says
    how the difference varies with the items of these tasks; it covers neither other tasks nor another sample.

    Args:
        tasks: The tasks.
        first: Scores in them, as :func:`gaprune.evaluation.quality.evaluate.evaluate` returns them, each time that the
            model was made.
        second: Scores of the other model, or those of each time that it was made.
        resamples: How often items are drawn.
        seed: Of the draws.

    Raises:
        ConfigError: If the models were not evaluated on the same tasks.

    Source: Efron and Tibshirani (1993), chapter 13 (percentile interval).
    """
    others = second if isinstance(second, Sequence) else [second]
    for each in (*first, *others):
        each.require_tasks(score.key for score in others[0].scores)
    random = np.random.default_rng(seed)
    differences = np.zeros(resamples)
    for task in tasks:
        mine, its = ([_items(task, each) for each in some] for some in (first, others))
        for part, drawn in _draws(random, len(its[0]), resamples):
            own, other = (np.mean([task.resampled(each, drawn) for each in some], axis=0) for some in (mine, its))
            differences[part] += (own - other) / len(tasks)
    keys = {task.key for task in tasks}
    means = [np.mean([score.value for score in each.scores if score.key in keys]) for each in (*first, *others)]
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return Difference(
        value=float(np.mean(means[: len(first)]) - np.mean(means[len(first) :])), low=float(low), high=float(high)
    )


def _draws(random: np.random.Generator, items: int, resamples: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield how often each item is in each resample, ``(part of the resamples, items)``, and which part that is."""
    step = max(1, _NUMBERS // items)
    for start in range(0, resamples, step):
        rows = random.integers(items, size=(min(step, resamples - start), items))
        yield (
            slice(start, start + len(rows)),
            np.array([np.bincount(row, minlength=items) for row in rows], np.float64),
        )


def _items(task: Task, evaluation: Evaluation) -> NDArray[np.float64]:
    found = next(score.items for score in evaluation.scores if score.key == task.key)
    if found is None:
        raise ValueError(f"the score in {task.name} was read from a file, which has no numbers of single items")
    return found
