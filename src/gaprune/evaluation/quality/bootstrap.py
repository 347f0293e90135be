"""Whether one model is better than another in tasks, or by chance: the paired bootstrap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gaprune.util.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.evaluation.quality.task import Task

__all__ = ["Difference", "paired_bootstrap"]

_RESAMPLES = 1000


class Difference(Record):
    """How much higher the mean over tasks of one model is than another's, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    tasks: Sequence[Task], first: Evaluation, second: Evaluation, *, resamples: int = _RESAMPLES, seed: int = 0
) -> Difference:
    """Return the difference of the mean over tasks between two models, and its 95 % interval.

    Queries, pairs and texts of each task are drawn with replacement, the same for both models. The interval says how
    the difference varies with the items of these tasks; it covers neither other tasks nor another training.

    Args:
        tasks: The tasks.
        first: Scores of one model in them, as :func:`gaprune.evaluation.quality.evaluate.evaluate` returns them.
        second: Scores of the other model.
        resamples: How often items are drawn.
        seed: Of the draws.

    Raises:
        ConfigError: If the models were not evaluated on the same tasks.

    Source: Efron and Tibshirani (1993), chapter 13 (percentile interval).
    """
    first.require_tasks(score.key for score in second.scores)
    random = np.random.default_rng(seed)
    differences = np.zeros(resamples)
    for task in tasks:
        mine, its = (_items(task, each) for each in (first, second))
        rows = random.integers(len(mine), size=(resamples, len(mine)))
        differences += (task.resampled(mine, rows) - task.resampled(its, rows)) / len(tasks)
    keys = {task.key for task in tasks}
    means = [np.mean([score.value for score in each.scores if score.key in keys]) for each in (first, second)]
    low, high = np.nanquantile(differences, (0.025, 0.975))
    return Difference(value=float(means[0] - means[1]), low=float(low), high=float(high))


def _items(task: Task, evaluation: Evaluation) -> NDArray[np.float64]:
    found = next(score.items for score in evaluation.scores if score.key == task.key)
    if found is None:
        raise ValueError(f"the score in {task.name} was read from a file, which has no numbers of single items")
    return found
