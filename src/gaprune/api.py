"""The verbs: what the command line does, in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gaprune.config import Recipe, load_recipe
from gaprune.errors import ConfigError, suggest
from gaprune.evaluation import Evaluation, Footprint, Task, evaluate_benchmark, find_tasks, footprint
from gaprune.evaluation import evaluate as evaluate_tasks
from gaprune.evaluation.benchmarks import resolve_benchmark
from gaprune.evaluation.task import ENCODING_BATCH_SIZE, check_batch_size
from gaprune.export import read_provenance
from gaprune.models import load_model, resolve_prompts
from gaprune.result import Result
from gaprune.runs import make_run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplet

__all__ = ["build_recipe", "evaluate", "inspect", "prune", "prune_many", "refuse_loading_options", "split_source"]

_LOADING = ("revision", "trust_remote_code", "device", "dtype")
"""Options that say how a model is loaded."""

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
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    sparsity: float | None = None,
    out: str | Path | None = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    **options: Any,
) -> Result:
    """Prune a model for a domain.

    Args:
        model: The parent: a folder, a hub id, or a loaded model, which is left as it is; one that is loaded for the
            purpose becomes the result, so that no second model is in memory.
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
    **options: Any,
) -> Iterator[Result]:
    """Prune a model at several sparsities from one measurement; yields a result for each.

    Arguments are those of :func:`prune`. With ``out``, a lone sparsity is written to it and several to
    ``out/sparsity-0.5`` and so on, each as soon as it is there. All but the last are copies of the parent: let go of
    a result before asking for the next, and there are never more than two models in memory.
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


def split_source(source: str | Path | Loaded | None) -> tuple[str | Path | None, Loaded | None]:
    """Return where to read something from, or the thing itself where it was given."""
    return (source, None) if source is None or isinstance(source, str | Path) else (None, source)


def refuse_loading_options(recipe: Recipe) -> None:
    """Refuse what says how to load a model, where the model is loaded already.

    Raises:
        ConfigError: If there is such an option; it would have no effect.
    """
    for option in ("model", *_LOADING, "max_length"):
        if getattr(recipe, option):
            raise _no_effect(option, "parent")


def _no_effect(option: str, model: str) -> ConfigError:
    return ConfigError(
        f"{option}: the {model} is a loaded model, so this has no effect.",
        "Leave it out, or name the model's folder or hub id instead.",
    )


def evaluate(
    model: str | Path | SentenceTransformer,
    *,
    tasks: str | Path | Sequence[Task] | None = None,
    benchmark: str | None = None,
    parent: str | Path | SentenceTransformer | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    batch_size: int = ENCODING_BATCH_SIZE,
    **options: Any,
) -> Evaluation:
    """Measure a model's quality on tasks of one's own or on an mteb benchmark, beside its parent where one is named.

    Args:
        model: A folder, a hub id, or a loaded model, which is left as it is.
        tasks: Folder of evaluation tasks, or the tasks.
        benchmark: A benchmark of mteb, ``finance``, or names of mteb's tasks with commas between.
        parent: The dense model, likewise.
        query_prompt: Text put before queries, for the parent too; each model's own where none is given.
        passage_prompt: Text put before passages, likewise.
        batch_size: Texts encoded at a time.
        **options: How the models are loaded: ``revision`` (of the one on the hub), ``trust_remote_code``,
            ``device``, ``dtype``, ``max_length``.

    Returns:
        The scores by task, with the parent's where it was named.

    Raises:
        GapruneError: One of its kinds; options, tasks and the benchmark's name are checked before a model is loaded.

    Example:
        >>> gaprune.evaluate("pruned", tasks="tasks", parent="sentence-transformers/all-MiniLM-L6-v2").mean()
    """
    _check_what(tasks, benchmark, (query_prompt, passage_prompt))
    check_batch_size(batch_size)
    sources = {"model": model} if parent is None else {"model": model, "parent": parent}
    loading = _loading_options(options, sources, (*_LOADING, "max_length"))
    if benchmark is not None:
        resolve_benchmark(benchmark)
    found = find_tasks(Path(tasks)) if isinstance(tasks, str | Path) else list(tasks or ())
    if benchmark is None and not found:
        raise ConfigError("tasks: there are no tasks to evaluate.", "Name a folder of evaluation tasks.")
    child, *parents = [
        load_model(each, **loading) if isinstance(each, str | Path) else each for each in sources.values()
    ]
    dense = parents[0] if parents else None
    if benchmark is not None:
        return evaluate_benchmark(child, benchmark, parent=dense, batch_size=batch_size)
    own = query_prompt is None and passage_prompt is None
    prompts = None if own else resolve_prompts(child, query=query_prompt, passage=passage_prompt)
    return evaluate_tasks(child, found, prompts=prompts, parent=dense, batch_size=batch_size)


def _check_what(
    tasks: str | Path | Sequence[Task] | None, benchmark: str | None, prompts: tuple[str | None, str | None]
) -> None:
    if (tasks is None) == (benchmark is None):
        raise ConfigError(
            "tasks, benchmark: give exactly one of them.",
            "Use --tasks FOLDER (tasks=...) or --benchmark NAME (benchmark=...).",
        )
    if benchmark is not None and prompts != (None, None):
        raise ConfigError(
            "query_prompt, passage_prompt: mteb takes the prompts of the model itself.",
            "Leave them out with a benchmark, or save the model with other prompts.",
        )


def _loading_options(
    options: Mapping[str, Any], sources: Mapping[str, object], known: Sequence[str]
) -> dict[str, Any]:
    """Return the options given, all of which have an effect on every one of the models in ``sources``, by role.

    Raises:
        ConfigError: If an option is unknown, a model is loaded already, or it is open whose the revision is.
    """
    for option in options:
        if option not in known:
            raise ConfigError(
                f"Unknown option {option!r}.{suggest(option, known)}", f"The options are {', '.join(known)}."
            )
    given = {option: value for option, value in options.items() if value is not None}
    asked = [option for option, value in given.items() if value is not False]
    for role, source in sources.items():
        if asked and not isinstance(source, str | Path):
            raise _no_effect(asked[0], role)
    on_hub = [role for role, source in sources.items() if isinstance(source, str | Path) and not Path(source).is_dir()]
    if "revision" in given and len(on_hub) != 1:
        raise ConfigError(
            f"revision: it is of the one model on the hub, and here {'both are' if on_hub else 'there is none'}.",
            "Leave it out, or name the folder of a model that was downloaded.",
        )
    return given


def inspect(model: str | Path | SentenceTransformer, **options: Any) -> tuple[Footprint, dict[str, Any] | None]:
    """Return the sizes and zeros of a model, and its provenance where it is a folder that GAPrune made.

    Args:
        model: A folder, a hub id or a loaded model.
        **options: How it is loaded: ``revision``, ``trust_remote_code``, ``device``, ``dtype``.

    Raises:
        ConfigError: If an option is unknown or would have no effect.
        ModelError: If the model cannot be loaded, or its provenance cannot be read.
    """
    loading = _loading_options(options, {"model": model}, _LOADING)
    if not isinstance(model, str | Path):
        return footprint(model), None
    provenance = read_provenance(model)
    return footprint(load_model(model, **loading)), provenance
