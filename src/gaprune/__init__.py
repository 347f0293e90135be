"""GAPrune: domain-aware pruning of embedding models."""

from gaprune.api import (
    Exported,
    bench,
    compare,
    evaluate,
    export_model,
    inspect,
    prune,
    prune_many,
    recover,
)
from gaprune.config import Recipe, RecoveryOptions
from gaprune.data import Triplet, Triplets, read_triplets
from gaprune.errors import GapruneError
from gaprune.evaluation import find_tasks
from gaprune.export import pack, unpack
from gaprune.results import Benchmark, Recovered, Result
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
