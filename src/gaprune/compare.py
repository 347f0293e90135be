"""Comparing criteria on the same model, data and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.api import build_recipe, refuse_loading_options, split_source
from gaprune.comparison import Cell, Comparison
from gaprune.config import Recipe
from gaprune.criteria import Criterion, create
from gaprune.errors import ConfigError
from gaprune.evaluation import Task, find_tasks
from gaprune.export import versions
from gaprune.result import Result
from gaprune.run import Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplet

__all__ = ["compare"]

_NOT_HERE = {
    "criterion": "Name them in criteria (--criteria) instead.",
    "criterion_options": "Register the criterion with these constants under a name of its own, or use gaprune.prune.",
    "scores": "Leave it out: signals are measured once for all criteria of a seed.",
    "scores_dtype": "Leave it out: no scores are kept.",
    "out": "Leave it out: on_result is given each model, and --out of the command takes the table.",
    "overwrite": "Leave it out: no model is written.",
}
"""Options of a recipe that say nothing about a comparison, with the way out."""


def compare(
    model: str | Path | SentenceTransformer | None = None,
    *,
    criteria: Sequence[str],
    tasks: str | Path | Sequence[Task] | None = None,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    seeds: int = 1,
    on_result: Callable[[Result], None] | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Prune the same model by several criteria and evaluate each result; the paper's table 1 is one.

    Signals are measured once a seed, for all criteria and sparsities together.

    Args:
        model: The parent: a folder, a hub id, or a loaded model.
        criteria: Names of criteria.
        tasks: Folder of evaluation tasks, or the tasks; those of the recipe where none are given.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language, likewise.
        seeds: How many samples of the calibration data to repeat it with, each of ``triplets`` triplets a side.
        on_result: Called with each result, which has its model, before it is let go.
        recipe: Further options, as in :func:`gaprune.prune`.
        **options: Any other field of :class:`gaprune.config.Recipe`, such as ``sparsity=(0.5, 0.65)``.

    Raises:
        GapruneError: One of its kinds, before anything is measured.
    """
    if not criteria or seeds < 1:
        raise ConfigError("criteria, seeds: at least one of each is needed.", "For example --criteria dai,magnitude.")
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    tasks_name, given = split_source(tasks)
    built = build_recipe(
        recipe, model=model_name, domain=domain_name, general=general_name, tasks=tasks_name, **options
    )
    if parent is not None:
        refuse_loading_options(built)
    created = {name: create(name) for name in criteria}
    _check_options(built, created.values(), seeds)
    found = find_tasks(Path(built.tasks)) if given is None and built.tasks else list(given or ())
    if not found:
        raise ConfigError(
            "tasks: there is none to compare on.", "Name a folder of evaluation tasks: --tasks FOLDER (tasks=...)."
        )
    cells: list[Cell] = []
    calibrations: dict[int, object] = {}
    run: Run | None = None
    for seed in range(built.seed, built.seed + seeds):
        names = [name for name, criterion in created.items() if run is None or criterion.depends_on_seed]
        if not names:
            break
        run = Run(
            built.model_copy(update={"seed": seed}),
            criteria=names,
            model=parent,
            domain=domain_triplets,
            general=general_triplets,
            tasks=found,
            earlier=run,
        )
        calibrations[seed] = run.calibration.as_dict()
        for result in run.results():
            if on_result is not None:
                on_result(result)
            cells.append(_cell(result))
            del result  # its model goes before the next is made
    return Comparison(cells[0].evaluation.of_parent(), cells, _settings(built, created, calibrations, run))


def _check_options(recipe: Recipe, criteria: Iterable[Criterion], seeds: int) -> None:
    for option, remedy in _NOT_HERE.items():
        if option in recipe.model_fields_set:
            raise ConfigError(f"{option}: a comparison of several criteria has no such option.", remedy)
    if seeds > 1 and recipe.triplets is None and any(each.domain_needs | each.general_needs for each in criteria):
        raise ConfigError(
            f"seeds: all {seeds} would measure the same triplets, all there are, and so show no spread.",
            "Say how many each seed draws: --triplets N (triplets=N), or leave --seeds out.",
        )


def _settings(
    recipe: Recipe, criteria: Mapping[str, Criterion], calibrations: Mapping[int, object], run: Run | None
) -> dict[str, Any]:
    """Return all that the numbers depend on, as plain data."""
    settings = recipe.model_dump(mode="json", exclude={*_NOT_HERE, "seed"})
    if run is not None:
        prompts = run.calibration.prompts
        settings |= {"parent": run.identity, "prompts": {"query": prompts.query, "passage": prompts.passage}}
    return settings | {
        "criteria": {name: criterion.model_dump() for name, criterion in criteria.items()},
        "calibration": {str(seed): sample for seed, sample in calibrations.items()},
        "versions": versions(),
    }


def _cell(result: Result) -> Cell:
    if result.evaluation is None:
        raise ConfigError("tasks: there is none to compare on.", "Name a folder of evaluation tasks.")
    return Cell(result.recipe.criterion, result.sparsity, result.recipe.seed, result.evaluation)
