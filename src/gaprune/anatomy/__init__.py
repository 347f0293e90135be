"""Where a model keeps its weights, and one language to select them."""

from gaprune.anatomy.matrices import Kind, Matrix, matrices
from gaprune.anatomy.selection import select

__all__ = ["Kind", "Matrix", "matrices", "select"]
