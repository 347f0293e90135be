"""Other models beside the one that a comparison starts from: on the same tasks, at measured cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gaprune.config.recipe import Recipe
from gaprune.data.checks.prompts import check_prompts
from gaprune.errors import ConfigError
from gaprune.evaluation.comparison import Cell, Lead, Other
from gaprune.evaluation.cost.latency import Speed, measure_speed
from gaprune.evaluation.quality.bootstrap import Difference, paired_bootstrap
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.models.prompts import resolve_prompts
from gaprune.pipelines.arguments import LOADING
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_WITHOUT_CRITERIA = {
    *LOADING, "model", "tasks", "max_length", "query_prompt", "passage_prompt", "evaluation_batch_size",
}  # fmt: skip
"""Options that have an effect if nothing is pruned."""


def speed_beside(model: SentenceTransformer, parent: SentenceTransformer) -> Speed:
    """Return how many times faster ``model`` is than ``parent``, both timed in turn."""
    from gaprune.models.exported_module import encoder_of  # loads PyTorch

    return measure_speed(encoder_of(model), encoder_of(parent))


def differences_from(dense: Evaluation, found: Sequence[Evaluation], tasks: Sequence[Task]) -> dict[str, Difference]:
    """Return by domain how much higher a model scores than ``dense``, as the mean over its evaluations ``found``."""
    return {
        domain: paired_bootstrap([task for task in tasks if task.domain == domain], found, dense)
        for domain in dense.domains
    }


def leads(cells: Sequence[Cell], tasks: Sequence[Task]) -> Iterator[Lead]:
    """Yield by how much the best criterion is ahead of the next, at each sparsity and in each domain of tasks."""
    several = len({cell.triplets for cell in cells if cell.triplets}) > 1
    for sparsity in dict.fromkeys(cell.sparsity for cell in cells):
        found: dict[str, list[Evaluation]] = {}
        for cell in cells:
            if cell.sparsity == sparsity:
                name = (
                    f"{cell.criterion} with {cell.triplets} triplets" if several and cell.triplets else cell.criterion
                )
                found.setdefault(name, []).append(cell.evaluation)
        for domain in cells[0].evaluation.domains if len(found) > 1 else ():
            means = {name: fmean(each.mean(domain) for each in some) for name, some in found.items()}
            best, following = sorted(found, key=lambda name: -means[name])[:2]
            of_domain = [task for task in tasks if task.domain == domain]
            difference = paired_bootstrap(of_domain, found[best], found[following])
            yield Lead(sparsity=sparsity, domain=domain, best=best, following=following, difference=difference)


def open_others(
    against: Mapping[str, str | Path | SentenceTransformer],
    parent: SentenceTransformer,
    dense: Evaluation,
    tasks: Sequence[Task],
    recipe: Recipe,
) -> Iterator[Other]:
    """Yield every other model by name, evaluated with its own prompts; one is in memory at a time.

    Texts are cut where the recipe cuts them, or earlier where a model's own limit is lower.
    """
    from gaprune.models.exported_module import open_model
    from gaprune.models.modes import shortened

    for name, source in against.items():
        say(f"Comparing with {name}.")
        model = open_model(source, **loading_of(recipe)) if isinstance(source, str | Path) else source
        limits = [each for each in (recipe.max_length, model.max_seq_length) if each is not None]
        with shortened(model, min(limits, default=None)):
            prompts = resolve_prompts(model)
            check_prompts(model, prompts, tasks)
            found = evaluate(
                model, tasks, prompts=prompts, batch_size=recipe.evaluation_batch_size, parent=dense, label=name
            )
            yield Other(
                name=name,
                evaluation=found,
                speed=speed_beside(model, parent),
                differences=differences_from(dense, [found], tasks),
            )


def loading_of(recipe: Recipe) -> dict[str, Any]:
    """Return how models other than the parent are loaded; a revision belongs to the parent alone."""
    return {option: getattr(recipe, option) for option in LOADING if option != "revision"}


def names_of(
    against: Sequence[str | Path | SentenceTransformer], beside: str | Path | SentenceTransformer | None
) -> dict[str, str | Path | SentenceTransformer]:
    """Return the models by their names in the table: that of the folder, or the whole path if two are alike.

    ``beside`` is the model that they are compared with, which is in the table too.

    Raises:
        ConfigError: If a model is named twice.
    """
    found: dict[str, str | Path | SentenceTransformer] = {}
    if isinstance(against, str | Path):
        raise ConfigError("against: this is one model, not a list of models.", f"Write against=[{str(against)!r}].")
    folders = [Path(each).resolve().name for each in (*against, beside) if isinstance(each, str | Path)]
    for number, each in enumerate(against, start=1):
        name = f"model {number}"
        if isinstance(each, str | Path):
            own = Path(each).resolve().name
            name = own if folders.count(own) == 1 else str(each)
        if name in found:
            raise ConfigError(f"against: {name} is named twice.", "Name every model once.")
        found[name] = each
    return found


def refuse_pruning_options(recipe: Recipe, given: Mapping[str, object]) -> None:
    """Refuse what would have no effect because no criterion is named.

    Raises:
        ConfigError: If there is such an option.
    """
    options = [each for each in recipe.model_fields_set if each not in _WITHOUT_CRITERIA and recipe.differs(each)]
    options += [name for name, value in given.items() if value]
    if options:
        raise ConfigError(
            f"{min(options)}: without criteria nothing is pruned, so this has no effect.",
            "Name criteria too (--criteria dai), or leave it out.",
        )
