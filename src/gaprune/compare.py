"""Comparing criteria on the same model, data and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.api import build_recipe, refuse_loading_options, split_source
from gaprune.comparison import Cell, Comparison
from gaprune.config import Recipe
from gaprune.criteria import create
from gaprune.errors import ConfigError
from gaprune.evaluation import Task, find_tasks
from gaprune.result import Result
from gaprune.run import Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplets

__all__ = ["compare"]


def compare(
    model: str | Path | SentenceTransformer | None = None,
    *,
    criteria: Sequence[str],
    tasks: str | Path | Sequence[Task],
    domain: str | Path | Triplets | None = None,
    general: str | Path | Triplets | None = None,
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
        tasks: Folder of evaluation tasks, or the tasks.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language, likewise.
        seeds: How many samples of the calibration data to repeat it with (see the option ``triplets``).
        on_result: Called with each result, which has its model, before it is let go.
        recipe: Further options, as in :func:`gaprune.prune`.
        **options: Any other field of :class:`gaprune.config.Recipe`, such as ``sparsity=(0.5, 0.65)``.

    Raises:
        ConfigError: If an option or a criterion makes no sense.
    """
    if not criteria or seeds < 1:
        raise ConfigError("criteria, seeds: at least one of each is needed.", "For example --criteria dai,magnitude.")
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    built = build_recipe(recipe, model=model_name, domain=domain_name, general=general_name, **options)
    if parent is not None:
        refuse_loading_options(built)
    for option in ("criterion_options", "scores", "out"):
        if getattr(built, option):
            raise ConfigError(
                f"{option}: a comparison of several criteria has no such option.",
                "Leave it out, and use gaprune.prune for a single criterion.",
            )
    found = find_tasks(Path(tasks)) if isinstance(tasks, str | Path) else list(tasks)
    cells: list[Cell] = []
    run: Run | None = None
    for offset in range(seeds):
        names = [name for name in criteria if offset == 0 or create(name).depends_on_seed]
        if not names:
            break
        run = Run(
            built.model_copy(update={"seed": built.seed + offset}),
            criteria=names,
            model=parent,
            domain=domain_triplets,
            general=general_triplets,
            tasks=found,
            earlier=run,
        )
        for result in run.results():
            if on_result is not None:
                on_result(result)
            cells.append(_cell(result))
    settings = built.model_dump(mode="json", exclude={"criterion", "criterion_options", "seed"})
    return Comparison(cells[0].evaluation.of_parent(), cells, settings)


def _cell(result: Result) -> Cell:
    if result.evaluation is None:
        raise ConfigError("tasks: there is none to compare on.", "Name a folder of evaluation tasks.")
    return Cell(result.recipe.criterion, result.sparsity, result.recipe.seed, result.evaluation)
