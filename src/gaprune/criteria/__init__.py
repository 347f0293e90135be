"""Formulas from weights and calibration statistics to importance: one file per method, under one open registry."""

from gaprune.criteria.base import (
    Criterion,
    Granularity,
    LayerCriterion,
    Solution,
    UnitCriterion,
    UpdatingCriterion,
    WeightCriterion,
)
from gaprune.criteria.inputs import LayerInputs, UnitInputs, WeightInputs
from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import available, create, register, split_name, with_option

__all__ = [
    "Criterion", "Granularity", "LayerCriterion", "LayerInputs", "Needs", "Solution", "UnitCriterion", "UnitInputs",
    "UpdatingCriterion", "WeightCriterion", "WeightInputs", "available", "create", "register", "split_name",
    "with_option",
]  # fmt: skip
