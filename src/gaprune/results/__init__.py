"""What the verbs return: results that know their numbers and how they are saved."""

from gaprune.results.benchmark import Benchmark, Cost
from gaprune.results.comparison import Cell, Comparison
from gaprune.results.curves import Curves, make_curves
from gaprune.results.cuts import Cut, Cuts
from gaprune.results.pruned import Result
from gaprune.results.recovered import Recovered

__all__ = [
    "Benchmark",
    "Cell",
    "Comparison",
    "Cost",
    "Curves",
    "Cut",
    "Cuts",
    "Recovered",
    "Result",
    "make_curves",
]
