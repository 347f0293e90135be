"""The verbs: what the command line does, in Python."""

from gaprune.api.benchmarking import bench
from gaprune.api.comparing import compare
from gaprune.api.evaluating import evaluate
from gaprune.api.exporting import Exported, export_model
from gaprune.api.inspecting import inspect
from gaprune.api.pruning import prune, prune_many
from gaprune.api.recovering import recover

__all__ = [
    "Exported",
    "bench",
    "compare",
    "evaluate",
    "export_model",
    "inspect",
    "prune",
    "prune_many",
    "recover",
]
