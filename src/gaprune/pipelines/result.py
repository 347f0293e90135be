"""The result of a pruning run: a model that can be asked, evaluated, compared and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gaprune.config.recipe import Recipe
from gaprune.evaluation.cost.footprint import Footprint, footprint
from gaprune.evaluation.quality.changed import ChangedQueries, evaluate_queries
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.export.hub import Pushable
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance, now, versions
from gaprune.export.records import Calibration, Method, Recovery, Sparsity
from gaprune.export.records import Prompts as PromptsRecord
from gaprune.models.prompts import Prompts
from gaprune.pipelines.recovered import write_result, zeros_among
from gaprune.pruning.removable.base import StructuredPruning
from gaprune.pruning.zeros import Pruning
from gaprune.report.sentences import summary

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, repr=False)
class Result(Pushable):
    """A pruned model and everything that made it.

    Args:
        model: The pruned model; a parent that the caller had loaded is another object, unchanged.
        recipe: What was asked for.
        sparsity: The sparsity asked for (a recipe can ask for several); ``None`` for structured pruning.
        change: Which weights were kept, or which structures were removed.
        prompts: Put before queries and passages in calibration and evaluation.
        own_length: The parent's own limit of text length, which the saved model has even if calibration cut its texts.
        parent: Identity of the parent.
        method: How it was pruned.
        calibration: What it was pruned with.
        leaks: Sentences about calibration texts that are in evaluation tasks too.
        evaluation: Its quality, if it was evaluated.
        queries: The queries that it answers worse and better than its parent, if it was evaluated beside it.
        out: Folder it is written to, if the recipe names one.
        recoveries: Every recovery that followed the pruning.
        made: When.
    """

    model: SentenceTransformer
    recipe: Recipe
    sparsity: float | None
    change: Pruning | StructuredPruning
    prompts: Prompts
    own_length: int | None
    parent: Parent
    method: Method
    calibration: Calibration
    leaks: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    queries: ChangedQueries | None = None
    out: Path | None = None
    recoveries: Sequence[Recovery] = ()
    made: str = field(default_factory=now)

    def __repr__(self) -> str:
        return f"Result({self.recipe.criterion!r}, {self.summary})"

    @property
    def summary(self) -> str:
        """How much was removed, of the selection and of the model, in words."""
        return summary(self.provenance())

    @cached_property
    def footprint(self) -> Footprint:
        """Sizes and zeros by linear layer, kind and of the whole model."""
        return footprint(self.model)

    @property
    def removed(self) -> int:
        """Weights that are zero among those selected, or parameters that were cut out."""
        return self._sparsity.removed

    @property
    def selected(self) -> int:
        """Weights or parameters of the parent that were up for removal."""
        return self._sparsity.selected

    @property
    def sparsity_of_selected(self) -> float:
        """The fraction of the selected parameters that was removed."""
        return self._sparsity.of_selected

    @property
    def sparsity_of_model(self) -> float:
        """The fraction of all parameters of the parent that was removed."""
        return self._sparsity.of_model

    @cached_property
    def _sparsity(self) -> Sparsity:
        change = self.change
        if isinstance(change, Pruning):
            return zeros_among(self.footprint, change.keep, asked=self.sparsity)
        return Sparsity(
            asked=self.sparsity,
            of_selected=change.removed / change.selected,
            of_model=change.removed / change.parent,
            removed=change.removed,
            selected=change.selected,
            parameters=self.footprint.parameters,
            parent_parameters=change.parent,
        )

    def evaluate(
        self,
        tasks: Sequence[Task],
        *,
        parent: SentenceTransformer | Evaluation | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """Return this result with its quality in ``tasks``, beside the parent's if that is given.

        Args:
            tasks: What :func:`gaprune.find_tasks` found.
            parent: The dense model, or its evaluation on the same tasks.
            batch_size: Texts encoded at a time; the recipe's ``evaluation_batch_size`` by default.
        """
        found, queries = evaluate_queries(
            self.model,
            tasks,
            prompts=self.prompts,
            parent=parent,
            batch_size=self.recipe.evaluation_batch_size if batch_size is None else batch_size,
            label=f"Evaluating {self.recipe.criterion}"
            + (f" at sparsity {self.sparsity:g}" if self.sparsity is not None else ""),
        )
        return replace(self, evaluation=found, queries=queries)

    def provenance(self) -> Provenance:
        """Return everything that made this model."""
        return Provenance(
            made=self.made,
            versions=versions(),
            parent=self.parent,
            method=self.method,
            sparsity=self._sparsity,
            calibration=self.calibration,
            prompts=PromptsRecord.model_validate(self.prompts),
            max_length=self.recipe.max_length,
            recipe=self.recipe.model_dump(mode="json"),
            recoveries=tuple(self.recoveries),
            evaluation=self.evaluation,
            leaks=self.leaks,
        )

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model, its card, its page and its provenance to the folder ``out``.

        Raises:
            OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
        """
        provenance = self.provenance().seen_from(Path(out), self.recipe.model)
        cut_at = self.model.max_seq_length
        self.model.max_seq_length = self.own_length
        try:
            return write_result(self.model, out, provenance, self.queries, overwrite=overwrite)
        finally:
            self.model.max_seq_length = cut_at
