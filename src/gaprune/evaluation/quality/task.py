"""The base class of local evaluation tasks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaprune.errors import ConfigError
from gaprune.evaluation.quality.scores import Score, TaskKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts, Role


def check_batch_size(batch_size: int) -> None:
    """Check the number of texts encoded at a time.

    Raises:
        ConfigError: If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: {batch_size} is below 1.", "Give the number of texts encoded at a time.")


class Measured(NamedTuple):
    """What a model did in a task.

    Args:
        metrics: By name, that of the task among them.
        items: A number for each query, pair or text ``(items,)``, from which the task's metric can be computed again
            for a resample of them.
    """

    metrics: Mapping[str, float]
    items: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task whose files were read and checked.

    Args:
        name: Name of its folder or file.
        domain: Name of the domain folder around it, empty for none.
        fingerprint: SHA-256 of its files' contents.
    """

    kind: ClassVar[str]
    metric: ClassVar[str]

    name: str
    domain: str
    fingerprint: str

    @property
    def key(self) -> TaskKey:
        """Domain, name and fingerprint."""
        return self.domain, self.name, self.fingerprint

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """Yield the texts that calibration data must not contain: queries, relevant passages, tested texts."""

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield every text that gets the prompt of a role, with that role."""
        return iter(())

    @abstractmethod
    def measure(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Measured:
        """Return what ``model`` does in this task."""

    def resampled(self, items: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric of every resample, ``(resamples,)``.

        Args:
            items: A number for each item, as :meth:`measure` returns them.
            drawn: How often each item is in each resample, ``(resamples, items)``.
        """
        return drawn @ items / len(items)

    def evaluate(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Score:
        """Score ``model`` in this task.

        Raises:
            ModelError: If the model gives embeddings that are not finite.
        """
        start = time.perf_counter()
        found = self.measure(model, prompts=prompts, batch_size=batch_size)
        return self.score(found, seconds=time.perf_counter() - start)

    def score(self, found: Measured, *, seconds: float) -> Score:
        """Return the score of what was measured."""
        return Score(
            task=self.name,
            domain=self.domain,
            kind=self.kind,
            metric=self.metric,
            value=found.metrics[self.metric],
            seconds=seconds,
            details=found.metrics,
            fingerprint=self.fingerprint,
            items=found.items,
        )
