"""Whole runs: calibration data, measurement, decision, surgery, repair, evaluation and writing, on either road."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaprune.runs.base import Run
from gaprune.runs.calibration import named_data
from gaprune.runs.units import UnitRun
from gaprune.runs.weights import WeightRun

if TYPE_CHECKING:
    from gaprune.config import Recipe

__all__ = ["Run", "UnitRun", "WeightRun", "make_run", "named_data", "run_kind"]


def run_kind(recipe: Recipe) -> type[Run]:
    """Return the run for the road that the recipe takes."""
    return UnitRun if recipe.cuts_units else WeightRun


def make_run(recipe: Recipe, **arguments: Any) -> Run:
    """Return a run on the road that the recipe takes; arguments are those of :class:`Run`."""
    return run_kind(recipe)(recipe, **arguments)
