"""The options of a run: one typed object for Python, YAML and the command line.

Precedence, lowest first: the defaults stated here, the recipe file, the options given on the command line or
as Python arguments. Every default is stated here and nowhere else.
"""

from gaprune.config.data import DataOptions
from gaprune.config.files import load_recipe
from gaprune.config.options import ENCODING_BATCH_SIZE, CommandOptions, Options, explain
from gaprune.config.recipe import Allocation, Recipe
from gaprune.config.recovery import MOST_HELD_OUT, RecoveryOptions
from gaprune.config.repair import RepairOptions
from gaprune.config.signals import FisherKind, Negatives, Placement, SignalOptions
from gaprune.config.units import UNITS, Unit, UnitOptions

__all__ = [
    "ENCODING_BATCH_SIZE",
    "MOST_HELD_OUT",
    "UNITS",
    "Allocation",
    "CommandOptions",
    "DataOptions",
    "FisherKind",
    "Negatives",
    "Options",
    "Placement",
    "Recipe",
    "RecoveryOptions",
    "RepairOptions",
    "SignalOptions",
    "Unit",
    "UnitOptions",
    "explain",
    "load_recipe",
]
