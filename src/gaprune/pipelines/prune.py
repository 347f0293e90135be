"""``gaprune.prune``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.recipe import Recipe
from gaprune.config.typed import PruneManyOptions, PruneOptions
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.pipelines.arguments import build_recipe, refuse_loading_options, split_source
from gaprune.pipelines.make_run import make_run
from gaprune.pipelines.result import Result

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet

__all__ = ["prune", "prune_many"]


def prune(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    sparsity: float | None = None,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[PruneOptions],
) -> Result:
    """Prune a model for a domain.

    Args:
        model: The parent: a folder, a hub id, or a loaded model, which is left as it is; one that is loaded for the
            purpose becomes the result where nothing is repaired, so that no second model is in memory.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language, or where to read them; a public set of the hub by default.
        sparsity: Fraction of the selected weights to remove, between 0 and 1.
        out: Folder to write the result to; nothing is written without one.
        recipe: A recipe, a mapping or a YAML file with further options.
        **options: Any other field of :class:`gaprune.config.Recipe`.

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
    if len(built.sparsity) > 1:
        raise ConfigError(
            f"sparsity: {len(built.sparsity)} values were given, and prune returns one result.",
            "Use gaprune.prune_many.",
        )
    return next(prune_many(model, domain=domain, general=general, recipe=built))


def prune_many(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[PruneManyOptions],
) -> Iterator[Result]:
    """Prune a model at several sparsities from one measurement; yields a result for each.

    Arguments are those of :func:`prune`. With ``out``, a lone sparsity is written to it and several to
    ``out/sparsity-0.5`` and so on, each as soon as it is there. All but the last are copies of the parent: let go of
    a result before asking for the next, and there are never more than two models in memory (with repair, which is on
    where domain data are named, two more while it runs).
    """
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    built = build_recipe(recipe, model=model_name, domain=domain_name, general=general_name, **options)
    if parent is not None:
        refuse_loading_options(built)
    tasks = find_tasks(Path(built.tasks)) if built.tasks else []
    return make_run(built, model=parent, domain=domain_triplets, general=general_triplets, tasks=tasks).results(
        inplace=parent is None
    )
