"""The result of an evaluation: scores of tasks, their means, and those of the parent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic_core.core_schema import (
    CoreSchema,
    no_info_plain_validator_function,
    plain_serializer_function_ser_schema,
)

from gaprune.errors import ConfigError, suggest
from gaprune.evaluation.quality.index import IndexScore, ParentIndex, SizeScore, Vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TaskKey = tuple[str, str, str]
"""Domain, name and fingerprint of a task; scores with the same key are comparable."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of a model in one task.

    Args:
        task: Name of the task.
        domain: Domain the task belongs to, empty for none.
        kind: Kind of the task, like ``retrieval``.
        metric: Name of the metric that ``value`` is.
        value: The metric; 1 is best, 0 is worst (-1 for correlations).
        seconds: Time the model took.
        parent: The parent's value in the same task, if it was evaluated.
        interval: The 95 % interval of ``change`` over the queries or texts of the task (paired bootstrap).
        details: Further metrics by name.
        fingerprint: Identifies the task's data.
        index: The score of the model's queries against the parent's passages.
        vectors: The embeddings, where they are kept to be compared with those of other models.
        items: What the metric rests on for each query, pair or text; ``None`` for scores that were read from a file.
    """

    task: str
    domain: str
    kind: str
    metric: str
    value: float
    seconds: float
    parent: float | None = None
    interval: tuple[float, float] | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    index: IndexScore | None = None
    vectors: Vectors | None = field(default=None, repr=False, compare=False)
    items: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> TaskKey:
        """Domain, name and fingerprint of the task."""
        return self.domain, self.task, self.fingerprint

    @property
    def change(self) -> float | None:
        """Difference to the parent, above 0 for a gain."""
        return None if self.parent is None else self.value - self.parent


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model, and of its parent if it was evaluated.

    Args:
        scores: One for each task.
        dimensions: Of the embeddings of the model and of its parent, if both were there to be compared.
        sizes: The quality of smaller indexes, if that was asked for.
        intervals: By domain, the 95 % interval of the change of its mean (paired bootstrap over queries or texts).
        index_intervals: The same of the scores in the parent's index.
    """

    scores: tuple[Score, ...]
    dimensions: tuple[int, int] | None = None
    sizes: tuple[SizeScore, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    index_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains in the order of the scores."""
        return tuple(dict.fromkeys(score.domain for score in self.scores))

    def mean(self, domain: str | None = None) -> float:
        """Return the mean value over the tasks of ``domain``, or over all tasks.

        Raises:
            ConfigError: If no task belongs to ``domain``.
        """
        return fmean(score.value for score in self._of(domain))

    def parent_mean(self, domain: str | None = None) -> float | None:
        """Return the parent's mean over the same tasks, ``None`` if it was not evaluated."""
        values = [score.parent for score in self._of(domain) if score.parent is not None]
        return fmean(values) if values else None

    def _of(self, domain: str | None) -> list[Score]:
        found = [score for score in self.scores if domain is None or score.domain == domain]
        if not found:
            raise ConfigError(
                f"domain: no evaluated task belongs to {domain!r}.{suggest(str(domain), self.domains)}",
                f"The domains are {', '.join(map(repr, self.domains)) or 'none'}.",
            )
        return found

    def require_tasks(self, keys: Iterable[TaskKey]) -> None:
        """Check that this evaluation covers exactly the tasks named by ``keys``.

        Raises:
            ConfigError: If a task is missing or additional, or its files have other contents.
        """
        own, others = {score.key for score in self.scores}, set(keys)
        if own != others:
            names = sorted({"/".join(filter(None, key[:2])) for key in own ^ others})
            raise ConfigError(
                f"The model and its parent were not evaluated on the same tasks; they differ in {', '.join(names)}.",
                "Evaluate both on the same tasks with the same files.",
            )

    def against(self, parent: Evaluation) -> Evaluation:
        """Return these scores with those of ``parent`` added.

        Raises:
            ConfigError: If ``parent`` was not evaluated on the same tasks.
        """
        parent.require_tasks(score.key for score in self.scores)
        values = {score.key: score.value for score in parent.scores}
        return Evaluation(tuple(replace(score, parent=values[score.key]) for score in self.scores))

    def of_parent(self) -> Evaluation:
        """Return the parent's evaluation, from its values in these scores.

        Raises:
            ConfigError: If the parent was not evaluated.
        """
        values = [score.parent for score in self.scores]
        if None in values:
            raise ConfigError("The parent was not evaluated.", "Evaluate with parent=.")
        return Evaluation(
            tuple(
                replace(score, value=value, parent=None, interval=None, details={}, items=None)
                for score, value in zip(self.scores, values, strict=True)
                if value is not None
            )
        )

    def without_vectors(self) -> Evaluation:
        """Return these scores without the embeddings behind them."""
        return replace(self, scores=tuple(replace(score, vectors=None) for score in self.scores))

    def parent_index(self, domain: str | None = None) -> ParentIndex | None:
        """Return whether the model's queries can search passages that its parent embedded.

        Retrieval tasks decide, or triplets if there are none; ``None`` if neither was evaluated beside the parent.
        """
        if self.dimensions is None:
            return None
        if self.dimensions[0] != self.dimensions[1]:
            return ParentIndex(same_space=False, dimensions=self.dimensions[0], parent_dimensions=self.dimensions[1])
        found = self.in_index(domain)
        if not found:
            return None
        domains = {score.domain for score in found}
        interval = self.index_intervals.get(*domains) if len(domains) == 1 else None
        scores = [
            (each.task, each.metric, each.domain, each.value, each.parent, each.index)
            for each in found
            if each.index is not None and each.parent is not None
        ]
        return ParentIndex.over(scores, self.dimensions, interval)

    def in_index(self, domain: str | None = None) -> list[Score]:
        """Return the scores by which the parent's index is judged: of retrieval, or of triplets if there is none."""
        for kind in ("retrieval", "triplets"):
            found = [
                score
                for score in self.scores
                if score.kind == kind
                and score.index is not None
                and score.parent is not None
                and domain in (None, score.domain)
            ]
            if found:
                return found
        return []

    def rows(self) -> list[dict[str, str | float | None]]:
        """Return the table: tasks by domain, and the mean of every domain of several tasks.

        Each row has ``domain``, ``task``, ``kind``, ``metric``, ``value``, ``parent``, ``change``, ``interval``
        and ``seconds``;
        rows of means have the kind ``mean`` and an empty task and metric.
        """
        rows: list[dict[str, str | float | None]] = []
        for domain in self.domains:
            members = self._of(domain)
            rows += [self._row(score) for score in members]
            if len(members) > 1:
                rows.append(self._row(self._mean_score(domain, members)))
        return rows

    @staticmethod
    def _row(score: Score) -> dict[str, str | float | None]:
        columns = ("domain", "task", "kind", "metric", "value", "parent", "change", "interval", "seconds")
        return {name: getattr(score, name) for name in columns}

    def _mean_score(self, domain: str, members: list[Score]) -> Score:
        part = Evaluation(tuple(members))
        seconds = sum(score.seconds for score in members)
        return Score(
            task="",
            domain=domain,
            kind="mean",
            metric="",
            value=part.mean(),
            parent=part.parent_mean(),
            interval=self.intervals.get(domain),
            seconds=seconds,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the evaluation that :meth:`as_dict` wrote."""
        index = content.get("parent_index")
        return cls(
            scores=tuple(
                Score(
                    **each
                    | {"index": IndexScore(**each["index"]) if each.get("index") else None}
                    | {"interval": tuple(each["interval"]) if each.get("interval") else None}
                )
                for each in content["scores"]
            ),
            dimensions=(index["dimensions"], index["parent_dimensions"]) if index else None,
            sizes=tuple(SizeScore(**each) for each in content.get("sizes", ())),
            intervals=_read_intervals(content.get("intervals", {})),
            index_intervals=_read_intervals(content.get("index_intervals", {})),
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        """Let records have an evaluation as a field: written by :meth:`as_dict`, read by :meth:`from_dict`."""

        def read(found: Any) -> Evaluation:
            try:
                return found if isinstance(found, Evaluation) else cls.from_dict(found)
            except (AttributeError, KeyError, TypeError) as error:
                raise ValueError(f"not the scores of an evaluation ({error})") from error

        written = plain_serializer_function_ser_schema(cls.as_dict)
        return no_info_plain_validator_function(read, serialization=written)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain data for JSON."""
        scores = [asdict(replace(score, vectors=None, items=None)) for score in self.scores]
        for score in scores:
            del score["vectors"], score["items"]
            if score["index"] is not None:
                del score["index"]["items"]
        found = self.parent_index()
        return {
            "scores": scores,
            "parent_index": None if found is None else found.model_dump(mode="json"),
            "sizes": [asdict(size) for size in self.sizes],
            "intervals": {domain: list(each) for domain, each in self.intervals.items()},
            "index_intervals": {domain: list(each) for domain, each in self.index_intervals.items()},
        }


def _read_intervals(found: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {domain: (low, high) for domain, (low, high) in found.items()}
