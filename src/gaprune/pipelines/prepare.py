"""The beginning of every pruning run: everything that can be wrong is refused before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.measurement import Precision
from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Criterion
from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import split_name
from gaprune.data.checks.check import check
from gaprune.data.checks.overlap import in_tasks
from gaprune.data.triplets import Triplets
from gaprune.evaluation.quality.task import Task
from gaprune.export.portable import Parent
from gaprune.export.records import Method, Recovery, Structured, Unstructured
from gaprune.models.checks import check_blocks, check_layers, check_measurable, unstreamed
from gaprune.models.modes import limit_length
from gaprune.models.precision import decide_precision
from gaprune.pipelines.arguments import check_finite, load_parent, output_folders, require_model
from gaprune.pipelines.recovery_plan import RecoveryPlan, plan_recovery
from gaprune.pipelines.removal import Removal, plan_removal
from gaprune.pruning.calibration import Calibration, CalibrationData, draw_calibration, named_data, read_data
from gaprune.pruning.measure import checkpoint_of
from gaprune.pruning.removable.base import StructuredPruning
from gaprune.pruning.spaces import check_target, spaces
from gaprune.pruning.zeros import Pruning
from gaprune.statistics.placement import check_placement
from gaprune.util.distributed import gather, join_process_group, rank
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet
    from gaprune.pruning.costs import SpeedOfShapes
    from gaprune.reconstruction.validate import Reconstruction

_FEW = 8
"""Texts on which bfloat16 is compared with float32."""


@dataclass(frozen=True)
class OpenParent:
    """The dense model."""

    model: SentenceTransformer
    own_length: int | None
    identity: Parent


@dataclass(frozen=True)
class Prepared:
    """A run that can start.

    Args:
        recipe: What is asked for.
        removal: What is removed.
        criteria: By name.
        needs: What all of them need together.
        parent: The dense model.
        calibration: The triplets.
        recovery: The recoveries, if any are asked for.
        tasks: What every result is evaluated on, beside the parent.
        outputs: Folder of each result, by its name.
        leaks: Sentences about calibration texts that are in evaluation tasks too.
        speed: How fast shapes are, for a search; by default operations are counted.
    """

    recipe: Recipe
    removal: Removal
    criteria: Mapping[str, Criterion]
    needs: Needs
    parent: OpenParent
    calibration: Calibration
    recovery: RecoveryPlan | None
    tasks: Sequence[Task]
    outputs: Mapping[str, Path | None]
    leaks: tuple[str, ...] = ()
    speed: SpeedOfShapes | None = None

    def method(self, name: str, pruning: Unstructured | Structured, report: Reconstruction | None) -> Method:
        """Return how a model was pruned by the criterion ``name``, for its provenance, with constants that count."""
        options = self.criteria[name].model_dump()
        if isinstance(pruning, Structured):
            terms = self.criteria[name].terms
            idle = set(terms.get("weights", ())).difference(*(terms.get(each, ()) for each in ("units", "layers")))
            options = {option: value for option, value in options.items() if option not in idle}
        return Method(criterion=split_name(name)[0], options=options, pruning=pruning, reconstruction=report)


@dataclass(frozen=True)
class PrunedModel:
    """A pruned model: which weights were kept or which structures removed, how, and every recovery that followed."""

    model: SentenceTransformer
    change: Pruning | StructuredPruning
    method: Method
    recoveries: Sequence[Recovery]


def prepare(
    recipe: Recipe,
    *,
    criteria: Sequence[str] = (),
    model: SentenceTransformer | None = None,
    domain: Sequence[Triplet] | None = None,
    general: Sequence[Triplet] | None = None,
    tasks: Sequence[Task] = (),
    data: CalibrationData | None = None,
    parent: OpenParent | None = None,
    speed: SpeedOfShapes | None = None,
) -> Prepared:
    """Check everything, load the parent and draw the triplets.

    Raises:
        GapruneError: One of its kinds for anything that is wrong with options, files, model or output folder.
    """
    named = named_data(recipe, domain=domain, general=general)
    removal = plan_removal(recipe, named)
    created = removal.create(criteria or [recipe.criterion])
    join_process_group()
    check_placement(recipe)
    is_first = rank() == 0  # the first process evaluates and writes, the others only measure
    outputs = output_folders(recipe) if is_first else dict.fromkeys(removal.singles)
    if model is None:
        require_model(recipe)
    needs = removal.needs(created.values())
    leaks: tuple[str, ...] = ()
    if data is None:
        data = read_data(recipe, needs, domain=domain, general=general)
        if is_first:
            leaks = say_problems(data.domain, tasks, general=data.general)
    recovery = plan_recovery(recipe, domain=domain, general=general) if recipe.recover else None
    checkpoint = checkpoint_of(recipe, {})
    if checkpoint is not None:
        checkpoint.check()
    parent = parent or _open_parent(recipe, model)
    removal = _without_reconstruction(removal, parent.model)
    created = removal.create(criteria or [recipe.criterion])
    needs = removal.needs(created.values())
    _check_removal(removal, parent.model, needs, speed)
    calibration = draw_calibration(parent.model, recipe, data, tasks)
    recipe = recipe.model_copy(update={"precision": _precision(recipe, parent.model, calibration)})
    # The options of what is removed hold the precision, too.
    removal = replace(plan_removal(recipe, named), reconstructs=removal.reconstructs)
    if recovery is not None:
        recovery = recovery.prepare(parent.model, parent.identity)
    tasks = tasks if is_first else ()
    return Prepared(recipe, removal, created, needs, parent, calibration, recovery, tasks, outputs, leaks, speed)


def say_problems(
    domain: Triplets | None,
    tasks: Sequence[Task],
    *,
    general: Triplets | None = None,
    texts: Mapping[str, Iterable[str]] | None = None,
) -> tuple[str, ...]:
    """Say in a line what ``gaprune data check`` would find that spoils the run; return what makes scores too good.

    Args:
        domain: Triplets of the domain.
        tasks: Evaluation tasks.
        general: General triplets, whose texts are sought in the tasks too.
        texts: Queries of texts to distil on, by the name of their set; they are sought among the tasks' queries.
    """
    held_out = {task.name: list(task.texts()) for task in tasks}
    found = None if domain is None else check(domain, evaluation=held_out)
    others = in_tasks("general", (text for item in general or () for text in (item.query, *item.passages)), held_out)
    asked = {task.name: [text for role, text in task.roles() if role == "query"] for task in tasks}
    for name, queries in (texts or {}).items():
        others += in_tasks(name, queries, asked)
    problems = [] if found is None else [*found.unusable, *found.spoiling]
    if problems := [*problems, *(each.problem for each in others)]:
        say(f"The data have problems that can spoil this run (gaprune data check): {' '.join(problems)}")
    return (*(() if found is None else found.leaks), *(each.leak for each in others))


def _open_parent(recipe: Recipe, model: SentenceTransformer | None) -> OpenParent:
    model = load_parent(recipe) if model is None else model
    check_layers(model)
    own_length = model.max_seq_length
    limit_length(model, recipe.max_length)
    check_finite(model)
    name = recipe.model or str(getattr(model.config, "_name_or_path", "") or "a model in memory")
    return OpenParent(model, own_length, Parent.of(model, name, revision=recipe.revision, dtype=recipe.dtype))


def _precision(recipe: Recipe, model: SentenceTransformer, calibration: Calibration) -> Precision:
    """Return the precision of the run; the first process decides."""
    triplets = calibration.domain or calibration.general or ()
    few = [item.positive for item in triplets[:_FEW]]
    own = decide_precision(model, recipe.precision, few, calibration.prompts.passage)
    decided: Precision = gather(own)[0]
    return decided


def _without_reconstruction(removal: Removal, model: SentenceTransformer) -> Removal:
    """Return ``removal`` without the reconstruction that nobody asked for, if the blocks cannot run one by one."""
    if not removal.reconstructs or removal.recipe.reconstruct or removal.recipe.rounds > 1:
        return removal
    reason = unstreamed(model)
    if reason is None:
        return removal
    say(f"Nothing is reconstructed: {reason}, so the blocks cannot run one by one.")
    return replace(removal, reconstructs=False)


def _check_removal(removal: Removal, model: SentenceTransformer, needs: Needs, speed: SpeedOfShapes | None) -> None:
    """Refuse a parent that cannot lose what is asked for."""
    check_blocks(model, streamed=removal.reconstructs)
    for removables in removal.removables.values():
        for each in removables:
            each.check(model)
            if needs.domain or needs.general or removal.reconstructs:
                check_measurable(model, each.measured(model))
    recipe = removal.kinds[0].recipe
    if recipe.target is not None:
        fewest = 0 if any(each.ranked_by is None for each in removal.kinds) else None
        found = spaces(model, recipe.target, recipe, tokens=fewest, speed=speed)
        check_target(recipe.target, model, found, tokens=fewest)
