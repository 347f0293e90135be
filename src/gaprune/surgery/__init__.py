"""Turning a decision into a model: weights set to zero (or updated) in a copy of the parent."""

from gaprune.surgery.zeros import Pruning, apply

__all__ = ["Pruning", "apply"]
