"""Where a model keeps its weights, and one language to select them."""

from gaprune.anatomy.blocks import block_path, blocks, layer_fields, removable_layers, transformer_of
from gaprune.anatomy.matrices import Kind, Matrix, matrices
from gaprune.anatomy.selection import select
from gaprune.anatomy.units import Producer, UnitGroup, UnitKind, unit_groups

__all__ = [
    "Kind",
    "Matrix",
    "Producer",
    "UnitGroup",
    "UnitKind",
    "block_path",
    "blocks",
    "layer_fields",
    "matrices",
    "removable_layers",
    "select",
    "transformer_of",
    "unit_groups",
]
