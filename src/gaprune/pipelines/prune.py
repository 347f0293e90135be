"""``gaprune.prune``."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.recipe import Recipe
from gaprune.config.typed import PruneManyOptions, PruneOptions
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError, continued_by
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.export.records import Calibration
from gaprune.pipelines.arguments import build_recipe, refuse_loading_options, split_source
from gaprune.pipelines.prepare import Prepared, PrunedModel, prepare
from gaprune.pipelines.result import Result
from gaprune.pipelines.structured import prune_structured, rank_units, with_rotation
from gaprune.pipelines.unstructured import prune_unstructured, score_weights
from gaprune.pruning.costs import SpeedOfShapes
from gaprune.pruning.scores import Scores
from gaprune.pruning.unit_importance import UnitRanking
from gaprune.report.sentences import AS_LARGE
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def prune(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    sparsity: float | None = None,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    speed: SpeedOfShapes | None = None,
    **options: Unpack[PruneOptions],
) -> Result:
    """Prune a model for a domain.

    Args:
        model: The parent: a folder, a hub id, or a loaded model, which is left as it is. A model that is loaded here
            becomes the result itself if nothing is reconstructed, so that no second model is in memory.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language, or where to read them; a public set of the hub by default.
        sparsity: Fraction of the selected weights to remove, between 0 and 1.
        out: Folder to write the result to; nothing is written without one.
        recipe: A recipe, a mapping or a YAML file with further options.
        speed: How fast models of other shapes are, for the target ``speedup``; by default operations are counted.
        **options: Any other field of :class:`gaprune.Recipe`.

    Returns:
        The result, with the pruned model.

    Raises:
        GapruneError: One of its kinds, naming the option, file, line or layer, before anything is written.

    Example:
        >>> result = gaprune.prune("sentence-transformers/all-MiniLM-L6-v2", domain="triplets.jsonl", sparsity=0.5)
        >>> result.save("pruned")

    Source:
        GAPrune, arXiv 2509.10844.
    """
    built = build_recipe(recipe, sparsity=sparsity, out=out, **options)
    several = list(built.singles())
    if len(several) > 1:
        raise ConfigError(
            f"{several[0].partition('-')[0]}: {len(several)} values were given, and prune returns one result.",
            "Use gaprune.prune_many.",
        )
    return next(prune_many(model, domain=domain, general=general, recipe=built, speed=speed))


def prune_many(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    speed: SpeedOfShapes | None = None,
    **options: Unpack[PruneManyOptions],
) -> Iterator[Result]:
    """Prune a model by several amounts from one measurement; yields a result for each.

    Arguments are those of :func:`prune`. With ``out``, a single result is written to it and several to
    ``out/sparsity-0.5`` and so on, each as soon as it is there. All but the last are copies of the parent: free a
    result before asking for the next, and there are never more than two models in memory (with reconstruction, which
    is on if domain data are named, two more while it runs).
    """
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    built = build_recipe(recipe, model=model_name, domain=domain_name, general=general_name, **options)
    if parent is not None:
        refuse_loading_options(built)
    tasks = find_tasks(Path(built.tasks)) if built.tasks else []
    run = prepare(built, model=parent, domain=domain_triplets, general=general_triplets, tasks=tasks, speed=speed)
    if not run.removal.is_structured:
        say(f"{AS_LARGE}; --width 0.5 (width=0.5) makes it both.")
    return results(run, inplace=parent is None)


def results(run: Prepared, *, inplace: bool = False, dense: Evaluation | None = None) -> Iterator[Result]:
    """Yield the results of a run by every criterion, written and evaluated as the recipe says."""
    dense = evaluate_parent(run) if dense is None else dense
    jobs = list(product(run.criteria, run.removal.singles))
    rotated = with_rotation(run)
    with ExitStack() as stack:
        if run.recipe.checkpoint is not None:
            how = (
                f"Run the same command again with --resume to continue; {run.recipe.checkpoint} has what was measured."
            )
            stack.enter_context(continued_by(how, folder=run.recipe.checkpoint))
        units = rank_units(rotated) if run.removal.is_structured else None
        scores = {} if units else score_weights(run, stack)
        for name, result in jobs:
            last = inplace and (name, result) == jobs[-1]
            by = units or scores[name]
            yield _finish(run, _prune(run, rotated, name, result, by, inplace=last), name, result, dense)
            gc.collect()  # models hold themselves in cycles; this frees the last one before the next is made


def _prune(
    run: Prepared, rotated: Prepared, name: str, result: str, by: UnitRanking | Scores, *, inplace: bool
) -> PrunedModel:
    if isinstance(by, UnitRanking):
        return prune_structured(rotated, name, result, by, parent=run.parent.model)
    return prune_unstructured(run, name, result, by, inplace=inplace)


def evaluate_parent(run: Prepared) -> Evaluation | None:
    """Return the parent's evaluation; ``None`` without tasks."""
    if not run.tasks:
        return None
    return evaluate(
        run.parent.model,
        run.tasks,
        prompts=run.calibration.prompts,
        batch_size=run.recipe.evaluation_batch_size,
        label="Evaluating the parent",
        keep_vectors=True,
    )


def _finish(run: Prepared, pruned: PrunedModel, name: str, result: str, dense: Evaluation | None) -> Result:
    """Return the result, evaluated and written as the recipe says."""
    single = run.removal.singles[result]
    found = Result(
        model=pruned.model,
        recipe=run.recipe.model_copy(update={"criterion": name}),
        sparsity=None if run.removal.is_structured else single.sparsity[0],
        change=pruned.change,
        prompts=run.calibration.prompts,
        own_length=run.parent.own_length,
        parent=run.parent.identity,
        method=pruned.method,
        calibration=Calibration.model_validate(run.calibration.as_dict()),
        leaks=run.leaks,
        out=run.outputs[result],
        recoveries=pruned.recoveries,
    )
    if dense is not None:
        found = found.evaluate(run.tasks, parent=dense)
    if found.out is not None:
        found.save(found.out, overwrite=run.recipe.overwrite)
    return found
