"""One run over one calibration sample: everything is checked first, measured once, then pruned in every way asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Criterion, Granularity, UpdatingCriterion
from gaprune.criteria.names import split_name
from gaprune.criteria.needs import DataKind, Needs
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.export.portable import Parent
from gaprune.export.records import Calibration, Method, Reconstruction, Recovery, Structured, Unstructured
from gaprune.models.checks import check_blocks, check_layers
from gaprune.models.load import limit_length
from gaprune.pipelines.preflight import check_finite, load_parent, outputs, require_model
from gaprune.pipelines.recovery_plan import plan_recovery
from gaprune.pipelines.result import Result
from gaprune.pruning.calibration import Data, checkpoint_of, named_data, prepare_calibration, read_data
from gaprune.statistics.placement import check_placement
from gaprune.util.distributed import join_process_group, rank

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet
    from gaprune.pruning.removed_units import StructuredPruning
    from gaprune.pruning.zeros import Pruning

__all__ = ["PrunedModel", "Run"]


@dataclass(frozen=True)
class PrunedModel:
    """A model that a run has made.

    Args:
        model: The pruned model.
        change: Which weights stayed, or which units went.
        method: How that was chosen.
        recoveries: Every recovery that followed.
    """

    model: SentenceTransformer
    change: Pruning | StructuredPruning
    method: Method
    recoveries: Sequence[Recovery]


class Run(ABC):
    """Prunes one model by one or more criteria at one or more sparsities, from a single measurement.

    Args:
        recipe: What is asked for.
        criteria: Names of criteria; the recipe's own where none are given.
        model: The parent where it is loaded already; it is left as it is, unless results are to be made in place.
        domain: Triplets used instead of those the recipe names.
        general: Likewise.
        tasks: What every result is evaluated on, beside the parent.
        data: The same data where they are read already, perhaps for other runs too.
        earlier: A run of the same model and tasks, whose parent and its evaluation are taken over.

    Raises:
        GapruneError: One of its kinds for anything that is wrong with options, files, model or output folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        criteria: Sequence[str] = (),
        model: SentenceTransformer | None = None,
        domain: Sequence[Triplet] | None = None,
        general: Sequence[Triplet] | None = None,
        tasks: Sequence[Task] = (),
        data: Data | None = None,
        earlier: Run | None = None,
    ) -> None:
        self.recipe = recipe
        self.named = named_data(recipe, domain=domain, general=general)
        self.reconstructs = self.will_reconstruct(recipe, self.named)
        reconstructs = self.reconstructs and recipe.is_structured
        made = {name: create(name) for name in criteria} if criteria else {recipe.criterion: create(recipe.criterion)}
        self.criteria: dict[str, Criterion] = {
            name: each.for_run(self.named, reconstructs=reconstructs) for name, each in made.items()
        }
        self.check_options()
        join_process_group()
        check_placement(recipe)
        self.singles = recipe.singles()
        self.outputs = outputs(recipe) if rank() == 0 else dict.fromkeys(self.singles)
        self.tasks = tasks if rank() == 0 else ()  # the first process evaluates and writes, the others only measure
        if model is None:
            require_model(recipe)
        self.needs = self.needs_of(recipe, self.criteria, self.named)
        data = data or read_data(recipe, self.needs, domain=domain, general=general)
        self.recovery = plan_recovery(recipe, domain=domain, general=general) if recipe.recover else None
        checkpoint = checkpoint_of(recipe, {})
        if checkpoint is not None:
            checkpoint.check()
        if earlier is None:
            self.parent = load_parent(recipe) if model is None else model
            self.own_length = self.parent.max_seq_length
            limit_length(self.parent, recipe.max_length)
            check_finite(self.parent)
            check_layers(self.parent)
            check_blocks(self.parent, streamed=self.reconstructs or "depth" in recipe.units)
            self.identity = Parent.of(
                self.parent, recipe.model or _name_of(self.parent), revision=recipe.revision, dtype=recipe.dtype
            )
        else:
            self.parent, self.own_length, self.identity = earlier.parent, earlier.own_length, earlier.identity
            self.dense = earlier.dense
        self.check_model()
        self.calibration = prepare_calibration(self.parent, recipe, data)
        if self.recovery is not None:
            self.recovery = self.recovery.prepare(self.parent, self.identity)

    @abstractmethod
    def check_options(self) -> None:
        """Refuse criteria and options that do not go together, before any file is read."""

    @classmethod
    def needs_of(cls, recipe: Recipe, criteria: Mapping[str, Criterion], named: Collection[DataKind]) -> Needs:
        """Return what a run by these criteria looks at, where data of the kinds ``named`` are there."""
        needs = cls.find_needs(recipe, criteria.values(), named)
        reconstructed = [name for name, each in criteria.items() if not isinstance(each, UpdatingCriterion)]
        if reconstructed and cls.will_reconstruct(recipe, named):
            needs |= Needs(texts=frozenset(named))
        return needs

    @classmethod
    def will_reconstruct(cls, recipe: Recipe, named: Collection[DataKind]) -> bool:
        """Return whether a run repairs what it has pruned.

        Raises:
            ConfigError: If it is asked to and cannot.
        """
        able = cls.can_reconstruct(recipe)
        if recipe.reconstruct and "domain" not in named:
            raise ConfigError(
                "reconstruct: it refits on texts of your domain, and none are named.",
                "Name triplets with --domain FILE (domain=...), or leave --reconstruct out.",
            )
        if recipe.reconstruct and not able:
            raise ConfigError(
                "reconstruct: there is nothing to refit where only tokens go.",
                "Leave --reconstruct (reconstruct=True) out, or cut neurons, heads or layers too.",
            )
        return able and (recipe.reconstruct if recipe.reconstruct is not None else "domain" in named)

    @classmethod
    @abstractmethod
    def granularities(cls, recipe: Recipe) -> tuple[Granularity, ...]:
        """Return what a run of this recipe takes away, as criteria tell it apart; tokens need none."""

    @classmethod
    @abstractmethod
    def can_reconstruct(cls, recipe: Recipe) -> bool:
        """Return whether anything is left that can make up for what goes."""

    @classmethod
    @abstractmethod
    def find_needs(cls, recipe: Recipe, criteria: Collection[Criterion], named: Collection[DataKind]) -> Needs:
        """Return what has to be measured, and on which data, but for repair."""

    @abstractmethod
    def check_model(self) -> None:
        """Find in the parent what is to be pruned; refuse what cannot be."""

    @abstractmethod
    def results(self, *, inplace: bool = False) -> Iterator[Result]:
        """Yield a result for every criterion and sparsity, written and evaluated as the recipe says.

        Args:
            inplace: Whether the parent is nobody else's, so that it may become the last result.
        """

    @cached_property
    def dense(self) -> Evaluation | None:
        """The parent's evaluation; ``None`` without tasks."""
        if not self.tasks:
            return None
        return evaluate(
            self.parent,
            self.tasks,
            prompts=self.calibration.prompts,
            batch_size=self.recipe.evaluation_batch_size,
            label="Evaluating the parent",
        )

    def finish(self, made: PrunedModel, name: str, single: str, dense: Evaluation | None) -> Result:
        """Return the result of one criterion and one single recipe, evaluated and written as asked."""
        result = Result(
            model=made.model,
            recipe=self.recipe.model_copy(update={"criterion": name}),
            sparsity=None if self.recipe.is_structured else self.singles[single].sparsity[0],
            change=made.change,
            prompts=self.calibration.prompts,
            own_length=self.own_length,
            parent=self.identity,
            method=made.method,
            calibration=Calibration.model_validate(self.calibration.as_dict()),
            out=self.outputs[single],
            recoveries=made.recoveries,
        )
        if dense is not None:
            result = result.evaluate(self.tasks, parent=dense)
        if result.out is not None:
            result.save(result.out, overwrite=self.recipe.overwrite)
        return result

    def method(self, name: str, pruning: Unstructured | Structured, reconstruction: object) -> Method:
        """Return how a model was pruned, for its provenance."""
        return Method(
            criterion=split_name(name)[0],
            options=self.criteria[name].model_dump(),
            pruning=pruning,
            reconstruction=None if reconstruction is None else Reconstruction.model_validate(reconstruction),
        )


def _name_of(model: SentenceTransformer) -> str:
    return str(getattr(model.config, "_name_or_path", "") or "a model in memory")
