"""Where a model keeps its weights, and one language to select them."""

from gaprune.anatomy.matrices import Kind, Matrix, blocks, matrices
from gaprune.anatomy.selection import select

__all__ = ["Kind", "Matrix", "blocks", "matrices", "select"]
