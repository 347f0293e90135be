"""Evaluating on the benchmarks and tasks of mteb."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.errors import ConfigError, DataError, ModelError, require_extra, suggest
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.evaluation.quality.task import check_batch_size
from gaprune.util.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

FINANCE_TASKS = (
    "FiQA2018",
    "FinQARetrieval",
    "FinanceBenchRetrieval",
    "HC3FinanceRetrieval",
    "ESGReports",
    "FinancialPhrasebankClassification.v2",
)
"""The tasks that ``finance`` stands for: mteb's freely available English text tasks of that domain."""


def evaluate_benchmark(
    model: SentenceTransformer,
    name: str,
    *,
    parent: SentenceTransformer | Evaluation | None = None,
    batch_size: int = ENCODING_BATCH_SIZE,
) -> Evaluation:
    """Score ``model``, and its parent if one is given, on a benchmark or on tasks of mteb.

    mteb chooses among the model's own prompts for each task. mteb's cache of results is not used: it identifies
    models by a name that a pruned model may share with its parent.

    Raises:
        MissingExtraError: If mteb is not installed.
        ConfigError: If mteb has no such benchmark or task, or ``batch_size`` is below 1.
        DataError: If a task's data cannot be loaded.
        ModelError: If a task gives no score.
    """
    check_batch_size(batch_size)
    domain, tasks = resolve_benchmark(name)
    if isinstance(parent, Evaluation):
        parent.require_tasks((domain, task.metadata.name, _fingerprint(task)) for task in tasks)
    models = [model]
    if parent is not None and not isinstance(parent, Evaluation):
        models.append(parent)
    runs = [(each, task) for each in models for task in tasks]
    scores = tuple(_evaluate_task(each, task, domain, batch_size) for each, task in track(runs, f"mteb {name}"))
    found = Evaluation(scores[: len(tasks)])
    if len(models) > 1:
        parent = Evaluation(scores[len(tasks) :])
    return found.against(parent) if isinstance(parent, Evaluation) else found


def resolve_benchmark(name: str) -> tuple[str, list[Any]]:
    """Return the domain (the benchmark's name) and the mteb tasks that ``name`` stands for.

    A benchmark is found by its name or alias in any case; without its suffix, the latest or only one is used.

    Raises:
        MissingExtraError: If mteb is not installed.
        ConfigError: If mteb has no such benchmark or task.
    """
    require_extra("Evaluating mteb benchmarks", "mteb", "mteb")
    import mteb

    if name.strip().casefold() == "finance":
        return "finance", [_task(task) for task in FINANCE_TASKS]
    names = {}
    for benchmark in mteb.get_benchmarks():
        names.update(dict.fromkeys((benchmark.name, *(benchmark.aliases or ())), benchmark))
    key = _closest(name.strip(), list(names))
    if key is not None:
        return names[key].name, list(names[key].tasks)
    parts = list(dict.fromkeys(part.strip() for part in name.split(",") if part.strip()))
    if not parts:
        raise ConfigError("benchmark: the name is empty.", "Name a benchmark or tasks of mteb, or 'finance'.")
    return "mteb", [_task(part, also=names) for part in parts]


def _closest(name: str, known: Sequence[str]) -> str | None:
    """Return the one of ``known`` that ``name`` stands for, or ``None``."""
    if name in known:
        return name
    folded = name.casefold()
    same = [each for each in known if each.casefold() == folded]
    with_suffix = [each for each in known if each.casefold().startswith(f"{folded}(")]
    latest = [each for each in with_suffix if each.casefold() == f"{folded}(latest)"]
    for found in (same, latest, with_suffix):
        if len(found) == 1:
            return found[0]
    return None


def _task(name: str, also: Sequence[str] | dict[str, Any] = ()) -> Any:
    import mteb

    try:
        return mteb.get_task(name)
    except KeyError as error:
        every = mteb.get_tasks(exclude_superseded=False)
        known = ["finance", *also, *(task.metadata.name for task in every)]
        raise ConfigError(
            f"benchmark: mteb {mteb.__version__} has no benchmark or task named {name!r}.{suggest(name, known)}",
            "Name a benchmark, comma-separated tasks, or 'finance'; mteb.get_benchmarks() lists them.",
        ) from error


def _fingerprint(task: Any) -> str:
    """Return the data set and its revision, which identify mteb's data."""
    dataset = task.metadata.dataset
    return f"{dataset['path']}@{dataset['revision']}"


def _evaluate_task(model: SentenceTransformer, task: Any, domain: str, batch_size: int) -> Score:
    import mteb

    start = time.perf_counter()
    try:
        with warnings.catch_warnings():  # mteb's own use of deprecated names
            for category in (DeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category, module=r"mteb\.")
            results = mteb.evaluate(
                model,
                task,
                cache=None,
                co2_tracker=False,
                public_only=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
            ).task_results
    except OSError as error:  # the errors of the hub and of the network are OSErrors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"The data of the mteb task {task.metadata.name} cannot be loaded: {first}",
            "Evaluate once where the Hugging Face hub can be reached (and, for gated data, logged in).",
        ) from error
    result = results[0]
    value = float(result.get_score())
    if not math.isfinite(value):
        raise ModelError(
            f"The mteb task {task.metadata.name} gives no score for this model ({value}).",
            "Its embeddings are constant or not finite: prune less, or load it with dtype=float32.",
        )
    return Score(
        task=task.metadata.name,
        domain=domain,
        kind=task.metadata.type,
        metric=task.metadata.main_score,
        value=value,
        seconds=time.perf_counter() - start,
        details={split: float(result.get_score(splits=[split])) for split in result.scores},
        fingerprint=_fingerprint(task),
    )
