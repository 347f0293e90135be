"""Comparing criteria, and other models, on the same data and tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.files import load_recipe
from gaprune.config.recipe import Recipe
from gaprune.config.typed import CompareOptions
from gaprune.criteria.base import Criterion
from gaprune.criteria.needs import Needs
from gaprune.data.checks.prompts import check_prompts
from gaprune.errors import ConfigError
from gaprune.evaluation.comparison import Cell, Comparison, Differences, Other
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.evaluation.variants import Variants, make_variants
from gaprune.export.portable import portable
from gaprune.export.provenance import versions
from gaprune.export.records import Structured
from gaprune.models.names import model_name
from gaprune.models.prompts import resolve_prompts
from gaprune.pipelines.arguments import build_recipe, refuse_loading_options, require_model, split_source
from gaprune.pipelines.others import (
    differences_from,
    leads,
    loading_of,
    names_of,
    open_others,
    refuse_pruning_options,
    speed_beside,
)
from gaprune.pipelines.prepare import Prepared, prepare, say_problems
from gaprune.pipelines.prune import evaluate_parent, results
from gaprune.pipelines.removal import Removal, plan_removal
from gaprune.pipelines.result import Result
from gaprune.pruning.calibration import CalibrationData, named_data, read_data
from gaprune.util.distributed import launched_processes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet

_NOT_HERE = {
    "criterion": "Name them in criteria (--criteria) instead.",
    "scores": "Leave it out: statistics are measured once for all criteria of a seed.",
    "out": "Leave it out: on_result is given each model, and --out of the command takes the table.",
    "overwrite": "Leave it out: no model is written.",
}
"""Options of a recipe that a comparison does not have, with what to do instead."""


def compare(
    model: str | Path | SentenceTransformer | None = None,
    *,
    criteria: Sequence[str] = (),
    against: Sequence[str | Path | SentenceTransformer] = (),
    tasks: str | Path | Sequence[Task] | None = None,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    seeds: int = 1,
    triplets: int | str | Sequence[int] | None = None,
    ablate: bool = False,
    sweep: Mapping[str, Sequence[object]] | None = None,
    on_result: Callable[[Result], None] | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Prune the same model by several criteria and evaluate each result, or put other models beside a model, or both.

    Statistics are measured once for each seed and number of triplets, for all criteria and sparsities together. The
    paper's table 1 is such a comparison. With other models, every row also has its speed and its difference from
    ``model`` with a 95 % interval.

    Args:
        model: The parent: a folder, a hub id, or a loaded model. Without criteria any model, an exported one too.
        criteria: Names of criteria, with constants after the name if wanted: ``dai:tempering=0.6``.
        against: Other models to compare with, in the same forms; each is evaluated with its own prompts.
        tasks: Folder of evaluation tasks, or the tasks; those of the recipe by default.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language, or where to read them.
        seeds: How many samples of the calibration data to repeat it with, each of ``triplets`` triplets per kind.
        triplets: Triplets per kind; several numbers show how much data the criteria need.
        ablate: Whether each criterion is also compared without each of its terms.
        sweep: Constants and the values to compare each criterion with, one constant at a time.
        on_result: Called with each result, which has its model, before the result is freed.
        recipe: Further options, as in :func:`gaprune.prune`; its ``triplets`` can be several too.
        **options: Any other field of :class:`gaprune.Recipe`, such as ``sparsity=(0.5, 0.65)``.

    Raises:
        GapruneError: One of its kinds, before anything is measured.
    """
    if launched_processes() > 1:
        raise ConfigError(
            f"compare: {launched_processes()} processes were started, and a comparison runs in one.",
            "Start it without a launcher; `gaprune prune` measures in several processes.",
        )
    if not (criteria or against) or seeds < 1:
        raise ConfigError(
            "criteria, seeds: at least one of each is needed, or another model to compare with.",
            "For example criteria=['dai', 'magnitude'] (--criteria dai,magnitude), or against=['other'] (--against).",
        )
    rivals = names_of(against, model)
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    tasks_name, given = split_source(tasks)
    base, counts = _take_counts(recipe, triplets)
    named = {"model": model_name, "domain": domain_name, "general": general_name, "tasks": tasks_name}
    built = build_recipe(base, **named, triplets=counts[0], **options)
    if parent is None:
        require_model(built)
    else:
        refuse_loading_options(built)
    if not criteria:
        given_too = {"triplets": counts != (None,), "ablate": ablate, "sweep": sweep, "seeds": seeds > 1}
        data_too = {"domain": domain_triplets is not None, "general": general_triplets is not None}
        refuse_pruning_options(built, {**given_too, **data_too})
        return _only_others(built, parent, _find_tasks(built, given), rivals)
    removal = plan_removal(built, named_data(built, domain=domain_triplets, general=general_triplets))
    plan = _plan(removal, counts, criteria, ablate=ablate, sweeps=sweep or {})
    found = _find_tasks(built, given)
    data = read_data(built, Needs.together(plan.needs.values()), domain=domain_triplets, general=general_triplets)
    _check_sizes(data, counts, seeds)
    leaks = say_problems(data.domain, found, general=data.general)
    cells: list[Cell] = []
    samples: list[dict[str, object]] = []
    run = dense = None
    for count, seed, names in plan.samples(seeds):
        run = prepare(
            built.model_copy(update={"seed": seed, "triplets": count}),
            criteria=names,
            model=parent,
            domain=domain_triplets,
            general=general_triplets,
            tasks=found,
            data=data,
            parent=None if run is None else run.parent,
        )
        samples.append({"seed": seed, "triplets": count} | run.calibration.as_dict())
        dense = dense or evaluate_parent(run)
        for result in results(run, dense=dense):
            if on_result is not None:
                on_result(result)
            cell = _cell(result, count if plan.needs[result.recipe.criterion] else None)
            if rivals:
                cell = cell.model_copy(update={"speed": speed_beside(result.model, run.parent.model)})
            cells.append(cell)
            del result  # free its model before the next is made
    others: list[Other] = []
    differences: list[Differences] = []
    if rivals and run is not None and dense is not None:
        others += open_others(rivals, run.parent.model, dense, found, built)
        differences += _differences(cells, dense, found)
    return Comparison(
        settings=_settings(plan, samples, run) | {"against": list(rivals), "leaks": list(leaks)},
        dense=cells[0].evaluation.of_parent(),
        cells=tuple(cells),
        variants=plan.variants,
        differences=tuple(differences),
        leads=tuple(leads(cells, found)),
        others=tuple(others),
    )


def _differences(cells: Sequence[Cell], dense: Evaluation, tasks: Sequence[Task]) -> Iterator[Differences]:
    """Yield the differences of every criterion from the parent, over its seeds."""
    for criterion, sparsity, triplets in dict.fromkeys(cell.key for cell in cells):
        found = [cell.evaluation for cell in cells if cell.key == (criterion, sparsity, triplets)]
        by_domain = differences_from(dense, found, tasks)
        yield Differences(criterion=criterion, sparsity=sparsity, triplets=triplets, by_domain=by_domain)


def _find_tasks(recipe: Recipe, given: Sequence[Task] | None) -> list[Task]:
    found = find_tasks(Path(recipe.tasks)) if given is None and recipe.tasks else list(given or ())
    if not found:
        raise ConfigError(
            "tasks: there is none to compare on.", "Name a folder of evaluation tasks: --tasks FOLDER (tasks=...)."
        )
    return found


def _only_others(
    recipe: Recipe,
    model: SentenceTransformer | None,
    tasks: Sequence[Task],
    rivals: Mapping[str, str | Path | SentenceTransformer],
) -> Comparison:
    """Return a model and others on the same tasks; nothing is pruned."""
    from gaprune.models.exported_module import open_model  # loads PyTorch

    if model is None:
        loading = {**loading_of(recipe), "revision": recipe.revision, "max_length": recipe.max_length}
        model = open_model(str(recipe.model), **loading)
    prompts = resolve_prompts(model, query=recipe.query_prompt, passage=recipe.passage_prompt)
    check_prompts(model, prompts, tasks)
    dense = evaluate(
        model, tasks, prompts=prompts, batch_size=recipe.evaluation_batch_size, label="Evaluating", keep_vectors=True
    )
    others = list(open_others(rivals, model, dense, tasks, recipe))
    settings = portable(recipe.model_dump(mode="json", include={"model", "tasks", "max_length"}))
    name = {"name": model_name(recipe.model)} if recipe.model else {}
    settings |= {"against": list(rivals), "versions": versions(), **name}
    return Comparison(settings=settings, dense=dense.without_vectors(), others=tuple(others))


@dataclass(frozen=True)
class _Plan:
    """What is compared with what."""

    recipe: Recipe
    counts: tuple[int | None, ...]
    criteria: Mapping[str, Criterion]
    needs: Mapping[str, Needs]
    variants: Variants

    def samples(self, seeds: int) -> Iterator[tuple[int | None, int, list[str]]]:
        """Yield number of triplets, seed, and names of the criteria whose results can differ from earlier ones."""
        for count, seed in product(self.counts, range(self.recipe.seed, self.recipe.seed + seeds)):
            first = (count, seed) == (self.counts[0], self.recipe.seed)
            names = [
                name
                for name, criterion in self.criteria.items()
                if first or self.needs[name] or (count == self.counts[0] and criterion.depends_on_seed)
            ]
            if names:
                yield count, seed, names


def _plan(
    removal: Removal,
    counts: tuple[int | None, ...],
    names: Sequence[str],
    *,
    ablate: bool,
    sweeps: Mapping[str, Sequence[object]],
) -> _Plan:
    """Return the plan for these criteria and their variants.

    Raises:
        ConfigError: For a criterion or an option that a comparison cannot have.
    """
    variants = make_variants(
        names,
        kinds=removal.named,
        reconstructs=removal.reconstructs and removal.is_structured,
        granularities=removal.granularities,
        ablate=ablate,
        sweeps=sweeps,
    )
    criteria = removal.create(variants.by_name)
    needs = {name: removal.needs([each]) for name, each in criteria.items()}
    for option, remedy in _NOT_HERE.items():
        if option in removal.recipe.model_fields_set:
            raise ConfigError(f"{option}: a comparison does not have this option.", remedy)
    if len(counts) > 1 and not any(needs.values()):
        raise ConfigError(
            "triplets: none of these criteria looks at any, so their number changes nothing.",
            "Give one number or none, or name a criterion that is measured, such as dai.",
        )
    return _Plan(removal.recipe, counts, criteria, needs, variants)


def _take_counts(
    recipe: Recipe | Mapping[str, Any] | str | Path | None, triplets: object
) -> tuple[Mapping[str, Any], tuple[int | None, ...]]:
    """Return the recipe without its numbers of triplets, and the numbers: those given here, else the recipe's."""
    if isinstance(recipe, Recipe):
        base = recipe.model_dump(exclude_unset=True)
    else:
        base = load_recipe(recipe) if isinstance(recipe, str | Path) else dict(recipe or {})
    own = base.pop("triplets", None)
    asked = own if triplets is None else triplets
    parts = asked.split(",") if isinstance(asked, str) else asked if isinstance(asked, Sequence) else [asked]
    counts = dict.fromkeys(Recipe.build({"triplets": part}).triplets for part in parts)
    if not counts:
        raise ConfigError("triplets: no number is given.", "Name one or more: --triplets 64,128 (triplets=[64, 128]).")
    return base, tuple(counts)


def _check_sizes(data: CalibrationData, counts: Sequence[int | None], seeds: int) -> None:
    """Refuse numbers of triplets that are more than there are, or with several seeds all there are."""
    for count in counts:
        data.check_count(count)
    size = data.smallest()
    if seeds > 1 and size is not None and any(count in (None, size) for count in counts):
        raise ConfigError(
            f"seeds: all {seeds} would measure the same triplets, all there are, and so show no spread.",
            f"Let each seed draw fewer than {size} with --triplets N (triplets=N), or leave seeds (--seeds) out.",
        )


def _settings(plan: _Plan, samples: Collection[object], run: Prepared | None) -> dict[str, Any]:
    """Return all that the numbers depend on, as plain data."""
    settings: dict[str, Any] = portable(plan.recipe.model_dump(mode="json", exclude={*_NOT_HERE, "seed"}))
    if run is not None:
        prompts = run.calibration.prompts
        settings["parent"] = run.parent.identity.model_dump(mode="json")
        settings["name"] = run.parent.identity.name
        settings["prompts"] = {"query": prompts.query, "passage": prompts.passage}
    return settings | {
        "triplets": list(plan.counts),
        "criteria": {name: criterion.model_dump() for name, criterion in plan.criteria.items()},
        "calibration": list(samples),
        "versions": versions(),
    }


def _asked(result: Result) -> float:
    """Return the fraction that was asked for, the same for all criteria and samples."""
    if result.sparsity is not None:
        return result.sparsity
    pruning = result.method.pruning
    target = pruning.target if isinstance(pruning, Structured) else None
    return result.sparsity_of_selected if target is None else target.asked


def _cell(result: Result, triplets: int | None) -> Cell:
    if result.evaluation is None:
        raise ConfigError("tasks: there is none to compare on.", "Name a folder of evaluation tasks.")
    reconstruction = result.method.reconstruction
    return Cell(
        criterion=result.recipe.criterion,
        sparsity=_asked(result),
        triplets=triplets,
        seed=result.recipe.seed,
        reconstructed=None if reconstruction is None else reconstruction.kept,
        evaluation=result.evaluation,
    )
