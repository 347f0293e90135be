"""The verbs: what the command line does, in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gaprune.config import Recipe, load_recipe
from gaprune.errors import ConfigError
from gaprune.evaluation import Footprint, find_tasks, footprint
from gaprune.export import read_provenance
from gaprune.models import load_model
from gaprune.result import Result
from gaprune.run import Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplets

__all__ = ["build_recipe", "inspect", "prune", "prune_many", "refuse_loading_options", "split_source"]

Loaded = TypeVar("Loaded")


def build_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None = None, **options: Any) -> Recipe:
    """Return a recipe from a file, a mapping or another recipe, with ``options`` on top.

    Precedence, lowest first: defaults, ``recipe``, ``options``; an option that is ``None`` is not given.

    Raises:
        ConfigError: If an option is unknown or makes no sense.
    """
    if isinstance(recipe, Recipe):
        base: Mapping[str, Any] = recipe.model_dump(exclude_unset=True)
    elif isinstance(recipe, str | Path):
        base = load_recipe(recipe)
    else:
        base = recipe or {}
    return Recipe.build(base, options)


def prune(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Triplets | None = None,
    general: str | Path | Triplets | None = None,
    sparsity: float | None = None,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Any,
) -> Result:
    """Prune a model for a domain.

    Args:
        model: The parent: a folder, a hub id, or a loaded model, which is left as it is.
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
    domain: str | Path | Triplets | None = None,
    general: str | Path | Triplets | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Prune a model at several sparsities from one measurement; yields a result for each.

    Arguments are those of :func:`prune`. With ``out``, a lone sparsity is written to it and several to
    ``out/sparsity-0.5`` and so on, each as soon as it is there.
    """
    model_name, parent = split_source(model)
    domain_name, domain_triplets = split_source(domain)
    general_name, general_triplets = split_source(general)
    built = build_recipe(recipe, model=model_name, domain=domain_name, general=general_name, **options)
    if parent is not None:
        refuse_loading_options(built)
    tasks = find_tasks(Path(built.tasks)) if built.tasks else []
    return Run(built, model=parent, domain=domain_triplets, general=general_triplets, tasks=tasks).results()


def split_source(source: str | Path | Loaded | None) -> tuple[str | Path | None, Loaded | None]:
    """Return where to read something from, or the thing itself where it was given."""
    return (source, None) if source is None or isinstance(source, str | Path) else (None, source)


def refuse_loading_options(recipe: Recipe) -> None:
    """Refuse what says how to load a model, where the model is loaded already.

    Raises:
        ConfigError: If there is such an option; it would have no effect.
    """
    for option in ("model", "revision", "trust_remote_code", "device", "dtype", "max_length"):
        if getattr(recipe, option):
            raise ConfigError(
                f"{option}: the parent is a loaded model, so this has no effect.",
                "Leave it out, or name the model's folder or hub id instead.",
            )


def inspect(model: str | Path | SentenceTransformer, **options: Any) -> tuple[Footprint, dict[str, Any] | None]:
    """Return the sizes and zeros of a model, and its provenance where GAPrune made it.

    Args:
        model: A folder, a hub id or a loaded model.
        **options: ``revision``, ``trust_remote_code``, ``device``, ``dtype``.
    """
    if isinstance(model, str | Path):
        return footprint(load_model(model, **options)), read_provenance(model)
    return footprint(model), None
