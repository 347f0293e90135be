"""Measuring the calibration statistics of a run on both kinds of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.criteria.needs import Needs
from gaprune.data.triplets import Triplets
from gaprune.models.linear_layers import LinearLayer
from gaprune.pruning.calibration import Calibration
from gaprune.statistics.checkpoint import Checkpoint
from gaprune.statistics.measure import measure
from gaprune.statistics.sums import Statistic, Statistics

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def measure_both(
    calibration: Calibration,
    model: SentenceTransformer,
    linear_layers: Sequence[LinearLayer],
    needs: Needs,
    recipe: Recipe,
    identity: Mapping[str, object],
    part: str = "",
) -> tuple[Statistics | None, Statistics | None]:
    """Return the statistics on domain and on general data, ``None`` if none are needed.

    Args:
        calibration: The triplets.
        model: The model.
        linear_layers: What is measured of it.
        needs: Which statistics.
        recipe: Options, and where measurements are kept.
        identity: What a checkpoint says of the model.
        part: Keeps the measurements of another model of the same run apart.
    """
    checkpoint = checkpoint_of(recipe, identity, part)
    beside = recipe.out or recipe.scores

    def one(triplets: Triplets | None, wanted: frozenset[Statistic], label: str) -> Statistics | None:
        if triplets is None or not wanted:
            return None
        return measure(
            model,
            triplets,
            linear_layers,
            statistics=wanted,
            prompts=calibration.prompts,
            options=recipe,
            label=label,
            cache=None if beside is None else Path(beside),
            checkpoint=checkpoint,
        )

    domain = one(calibration.domain, needs.domain, "domain")
    return domain, one(calibration.general, needs.general, "general")


def checkpoint_of(recipe: Recipe, identity: Mapping[str, object], part: str = "") -> Checkpoint | None:
    """Return where the recipe keeps measurements, if it does; every sample (seed, size) has a folder of its own."""
    if recipe.checkpoint is None:
        return None
    drawn = "" if recipe.triplets is None else f"-triplets-{recipe.triplets}"
    folder = Path(recipe.checkpoint) / f"seed-{recipe.seed}{drawn}" / part
    return Checkpoint(folder, resume=recipe.resume, every=recipe.checkpoint_every, identity=identity)
