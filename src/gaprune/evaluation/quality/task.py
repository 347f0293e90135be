"""The base class of local evaluation tasks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.scores import Score, TaskKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts, Role

__all__ = ["ENCODING_BATCH_SIZE", "Task", "check_batch_size"]


def check_batch_size(batch_size: int) -> None:
    """Check the number of texts encoded at a time.

    Raises:
        ConfigError: If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: {batch_size} is below 1.", "Give the number of texts encoded at a time.")


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
    def metrics(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Mapping[str, float]:
        """Return metrics by name, :attr:`metric` among them."""

    def evaluate(self, model: SentenceTransformer, *, prompts: Prompts, batch_size: int) -> Score:
        """Score ``model`` in this task.

        Raises:
            ModelError: If the model gives embeddings that are not finite.
        """
        start = time.perf_counter()
        details = self.metrics(model, prompts=prompts, batch_size=batch_size)
        return self.score(details, seconds=time.perf_counter() - start)

    def score(self, details: Mapping[str, float], *, seconds: float) -> Score:
        """Return the score that has these metrics."""
        return Score(
            task=self.name,
            domain=self.domain,
            kind=self.kind,
            metric=self.metric,
            value=details[self.metric],
            seconds=seconds,
            details=details,
            fingerprint=self.fingerprint,
        )
