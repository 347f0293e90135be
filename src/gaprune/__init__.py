"""GAPrune: domain-aware pruning of embedding models.

The names are imported when they are first used, so that ``import gaprune`` loads no deep-learning library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaprune.config.recipe import Recipe
    from gaprune.config.recovery import RecoveryOptions
    from gaprune.data.read import read_triplets
    from gaprune.data.triplets import Triplet, Triplets
    from gaprune.errors import GapruneError
    from gaprune.evaluation.cost.benchmark import Benchmark
    from gaprune.evaluation.quality.discovery import find_tasks
    from gaprune.export.archive import pack, unpack
    from gaprune.models.exported import ExportedModel
    from gaprune.pipelines.bench import bench
    from gaprune.pipelines.compare import compare
    from gaprune.pipelines.evaluate import evaluate
    from gaprune.pipelines.export import Exported, export_model
    from gaprune.pipelines.inspect import inspect
    from gaprune.pipelines.prune import prune, prune_many
    from gaprune.pipelines.recover import recover
    from gaprune.pipelines.recovered import Recovered
    from gaprune.pipelines.report import write_report
    from gaprune.pipelines.result import Result
    from gaprune.pipelines.shrink import Shrunk, shrink
    from gaprune.pruning.scores import Scores

__all__ = [
    "Benchmark", "Exported", "ExportedModel", "GapruneError", "Recipe", "Recovered", "RecoveryOptions", "Result",
    "Scores", "Shrunk", "Triplet", "Triplets", "bench", "compare", "evaluate", "export_model", "find_tasks", "inspect",
    "pack", "prune", "prune_many", "read_triplets", "recover", "shrink", "unpack", "write_report",
]  # fmt: skip

_MODULES = {
    "config.recipe": ("Recipe",),
    "config.recovery": ("RecoveryOptions",),
    "data.read": ("read_triplets",),
    "data.triplets": ("Triplet", "Triplets"),
    "errors": ("GapruneError",),
    "evaluation.cost.benchmark": ("Benchmark",),
    "evaluation.quality.discovery": ("find_tasks",),
    "export.archive": ("pack", "unpack"),
    "models.exported": ("ExportedModel",),
    "pipelines.bench": ("bench",),
    "pipelines.compare": ("compare",),
    "pipelines.evaluate": ("evaluate",),
    "pipelines.export": ("Exported", "export_model"),
    "pipelines.inspect": ("inspect",),
    "pipelines.prune": ("prune", "prune_many"),
    "pipelines.recover": ("recover",),
    "pipelines.recovered": ("Recovered",),
    "pipelines.report": ("write_report",),
    "pipelines.result": ("Result",),
    "pipelines.shrink": ("Shrunk", "shrink"),
    "pruning.scores": ("Scores",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
