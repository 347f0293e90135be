"""GAPrune: domain-aware pruning of embedding models."""

from gaprune.api import evaluate, inspect, prune, prune_many
from gaprune.compare import compare
from gaprune.config import Recipe, RecoveryOptions
from gaprune.data import Triplet, Triplets, read_triplets
from gaprune.errors import GapruneError
from gaprune.evaluation import find_tasks
from gaprune.recover import recover
from gaprune.recovered import Recovered
from gaprune.result import Result
from gaprune.scores import Scores

__all__ = [
    "GapruneError",
    "Recipe",
    "Recovered",
    "RecoveryOptions",
    "Result",
    "Scores",
    "Triplet",
    "Triplets",
    "compare",
    "evaluate",
    "find_tasks",
    "inspect",
    "prune",
    "prune_many",
    "read_triplets",
    "recover",
]
