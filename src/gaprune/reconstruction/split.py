"""Which calibration triplets a reconstruction is fitted on, and which it is judged on."""

from __future__ import annotations

from collections.abc import Collection

from gaprune.config.recipe import Recipe
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError
from gaprune.pruning.calibration import Calibration

_HELD_OUT = 5
"""At most one triplet in so many is held out."""


def shares_of(kinds: Collection[str], recipe: Recipe) -> dict[str, float]:
    """Return the share of each kind of texts in the mixture that is fitted."""
    if "general" not in kinds:
        return {"domain": 1.0}
    return {"domain": 1 - recipe.general_share, "general": recipe.general_share}


def split(calibration: Calibration, recipe: Recipe) -> tuple[dict[str, Triplets], dict[str, Triplets]]:
    """Return the triplets to fit on and those to judge on, by kind of data, drawn by the recipe's seed.

    Raises:
        ConfigError: If there are too few.
    """
    fitted: dict[str, Triplets] = {}
    judged: dict[str, Triplets] = {}
    for kind, triplets in calibration.of_user().items():
        last = max(2, min(len(triplets) // _HELD_OUT, recipe.reconstruction_triplets // 2))
        if len(triplets) <= last:
            raise ConfigError(
                f"reconstruct: {len(triplets)} {kind} triplets are too few to fit on some and judge on others.",
                "Name at least three, or switch reconstruction off: --no-reconstruct (reconstruct=False).",
            )
        shuffled = triplets.take(len(triplets), seed=recipe.seed)
        judged[kind], fitted[kind] = shuffled[:last], shuffled[last:][: recipe.reconstruction_triplets]
    return fitted, judged
