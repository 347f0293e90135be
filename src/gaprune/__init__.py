"""GAPrune: domain-aware pruning of embedding models."""

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
from gaprune.pipelines.result import Result
from gaprune.pruning.scores import Scores

__all__ = [
    "Benchmark",
    "Exported",
    "ExportedModel",
    "GapruneError",
    "Recipe",
    "Recovered",
    "RecoveryOptions",
    "Result",
    "Scores",
    "Triplet",
    "Triplets",
    "bench",
    "compare",
    "evaluate",
    "export_model",
    "find_tasks",
    "inspect",
    "pack",
    "prune",
    "prune_many",
    "read_triplets",
    "recover",
    "unpack",
]
