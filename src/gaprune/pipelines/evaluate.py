"""``gaprune.evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.config.typed import LoadingOptions
from gaprune.data.checks.prompts import check_prompts
from gaprune.errors import ConfigError
from gaprune.evaluation.quality.benchmarks import evaluate_benchmark, resolve_benchmark
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate as evaluate_tasks
from gaprune.evaluation.quality.retrieval import RetrievalTask
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.search import SearchTask
from gaprune.evaluation.quality.sizes import measure_sizes
from gaprune.evaluation.quality.task import Task, check_batch_size
from gaprune.models.formats import check_runnable
from gaprune.models.prompts import resolve_prompts
from gaprune.pipelines.arguments import LOADING, loading_options

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def evaluate(
    model: str | Path | SentenceTransformer,
    *,
    tasks: str | Path | Sequence[Task] | None = None,
    benchmark: str | None = None,
    parent: str | Path | SentenceTransformer | None = None,
    index: Literal["parent", "sizes"] | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    batch_size: int = ENCODING_BATCH_SIZE,
    **options: Unpack[LoadingOptions],
) -> Evaluation:
    """Measure the quality of a model on own tasks or on an mteb benchmark, beside its parent if one is named.

    Args:
        model: A folder (an exported one too), a hub id, or a loaded model, which is left as it is.
        tasks: Folder of evaluation tasks, or the tasks.
        benchmark: A benchmark of mteb, ``finance``, or names of mteb's tasks with commas between.
        parent: The dense model, in the same forms. With it, queries of the model are also scored against passages that
            the parent embedded, in retrieval and triplet tasks.
        index: ``parent`` refuses what cannot be scored in the parent's index, instead of leaving these scores out;
            ``sizes`` also scores smaller indexes: fewer dimensions, int8 and binary numbers.
        query_prompt: Text put before queries, for the parent too; default: each model's own.
        passage_prompt: Text put before passages, for the parent too; default: each model's own.
        batch_size: Texts encoded at a time.
        **options: How the models are loaded: ``revision`` (of the one on the hub), ``trust_remote_code``,
            ``device``, ``dtype``, ``max_length``.

    Returns:
        The scores by task, with those of the parent if it was named.

    Raises:
        GapruneError: One of its kinds; options, tasks and the benchmark's name are checked before a model is loaded.

    Example:
        >>> gaprune.evaluate("pruned", tasks="tasks", parent="sentence-transformers/all-MiniLM-L6-v2").mean()
    """
    _check_what(tasks, benchmark, (query_prompt, passage_prompt))
    if index is not None:
        _check_index(index, benchmark, parent)
    check_batch_size(batch_size)
    sources = {"model": model} if parent is None else {"model": model, "parent": parent}
    loading = loading_options(options, sources, (*LOADING, "max_length"))
    for each in sources.values():
        if isinstance(each, str | Path):
            check_runnable(each)
    if benchmark is not None:
        resolve_benchmark(benchmark)
    found = find_tasks(Path(tasks)) if isinstance(tasks, str | Path) else list(tasks or ())
    if benchmark is None and not found:
        raise ConfigError("tasks: there are no tasks to evaluate.", "Name a folder of evaluation tasks.")
    needed = {"parent": SearchTask, "sizes": RetrievalTask}.get(index or "", Task)
    if index is not None and not any(isinstance(task, needed) for task in found):
        raise ConfigError("index: none of the tasks searches one.", "Name retrieval tasks, or leave it out.")
    from gaprune.models.exported_module import open_model  # loads PyTorch

    child, *parents = [
        open_model(each, **loading) if isinstance(each, str | Path) else each for each in sources.values()
    ]
    dense = parents[0] if parents else None
    if index == "parent" and dense is not None:
        _check_dimensions(child, dense)
    if benchmark is not None:
        return evaluate_benchmark(child, benchmark, parent=dense, batch_size=batch_size)
    put = [resolve_prompts(each, query=query_prompt, passage=passage_prompt) for each in (child, *parents)]
    for each, prompts in zip((child, *parents), put, strict=True):
        check_prompts(each, prompts, found)
    scored = evaluate_tasks(
        child,
        found,
        prompts=put[0],
        parent_prompts=put[-1],
        parent=dense,
        batch_size=batch_size,
        keep_vectors=index == "sizes",
    )
    return replace(scored.without_vectors(), sizes=measure_sizes(found, scored)) if index == "sizes" else scored


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


def _check_index(index: str, benchmark: str | None, parent: object) -> None:
    if index not in ("parent", "sizes"):
        raise ConfigError(f"index: {index!r} is unknown.", "Write parent or sizes, or leave it out.")
    if benchmark is not None:
        raise ConfigError("index: mteb searches an index of its own.", "Use --tasks FOLDER (tasks=...).")
    if index == "parent" and parent is None:
        raise ConfigError("index: the parent is not named.", "Name it with --parent (parent=...).")


def _check_dimensions(child: SentenceTransformer, parent: SentenceTransformer) -> None:
    mine, its = child.get_embedding_dimension(), parent.get_embedding_dimension()
    if mine != its:
        raise ConfigError(
            f"index: the model's embeddings have {mine} dimensions, the parent's {its}: it cannot search its index.",
            "Embed the passages again with this model, or leave --index (index=) out.",
        )
