"""GAPrune: domain-aware pruning of embedding models."""

from gaprune.api import evaluate, inspect, prune, prune_many
from gaprune.bench import bench
from gaprune.benchmark import Benchmark
from gaprune.compare import compare
from gaprune.config import Recipe, RecoveryOptions
from gaprune.conversion import Exported, export_model
from gaprune.data import Triplet, Triplets, read_triplets
from gaprune.errors import GapruneError
from gaprune.evaluation import find_tasks
from gaprune.export import pack, unpack
from gaprune.recover import recover
from gaprune.recovered import Recovered
from gaprune.result import Result
from gaprune.runtimes import ExportedModel
from gaprune.scores import Scores

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
