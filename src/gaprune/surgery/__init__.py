"""Turning a decision into a model: weights set to zero or updated, or whole units cut out, in a copy."""

from gaprune.surgery.healing import heal
from gaprune.surgery.rebuild import rebuild
from gaprune.surgery.units import remove_layers, remove_units
from gaprune.surgery.zeros import Pruning, apply

__all__ = ["Pruning", "apply", "heal", "rebuild", "remove_layers", "remove_units"]
