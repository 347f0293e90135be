"""Formulas from weights and signals to importance, under one open registry."""

from gaprune.criteria import baselines, dai, sparsegpt  # noqa: F401 (importing registers)
from gaprune.criteria.base import (
    Criterion,
    Granularity,
    LayerInputs,
    Solution,
    UnitInputs,
    UpdatingCriterion,
    WeightInputs,
)
from gaprune.criteria.names import split_name, with_option
from gaprune.criteria.registry import available, create, register

__all__ = [
    "Criterion",
    "Granularity",
    "LayerInputs",
    "Solution",
    "UnitInputs",
    "UpdatingCriterion",
    "WeightInputs",
    "available",
    "create",
    "register",
    "split_name",
    "with_option",
]
