"""Whole runs: calibration data, measurement, decision, surgery, repair, evaluation and writing, on either road."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaprune.pipelines.base import Run
from gaprune.pipelines.structured import StructuredRun
from gaprune.pipelines.unstructured import UnstructuredRun
from gaprune.pruning.calibration import named_data

if TYPE_CHECKING:
    from gaprune.config.recipe import Recipe

__all__ = ["Run", "StructuredRun", "UnstructuredRun", "make_run", "named_data", "run_kind"]


def run_kind(recipe: Recipe) -> type[Run]:
    """Return the run for the road that the recipe takes."""
    return StructuredRun if recipe.is_structured else UnstructuredRun


def make_run(recipe: Recipe, **arguments: Any) -> Run:
    """Return a run on the road that the recipe takes; arguments are those of :class:`Run`."""
    return run_kind(recipe)(recipe, **arguments)
