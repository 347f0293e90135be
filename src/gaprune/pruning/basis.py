"""What a choice rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from gaprune.criteria.base import Criterion
from gaprune.data.triplets import Triplets
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.scores import Scores
from gaprune.pruning.unit_importance import QuickReconstruction, UnitRanking


@dataclass(frozen=True)
class Basis:
    """What a choice rests on.

    Args:
        name: Name of the criterion.
        criterion: Ranks what can be removed.
        calibration: The triplets of the run.
        scores: Importance of single weights, if those are removed.
        units: Ranks heads and neurons, if those are removed.
        quick: The quick reconstruction; ``None`` if the run does not reconstruct.
        held_out: Triplets by kind that the reconstruction is not fitted on.
        removed_layers: Layers of the parent that were removed before.
        keep: Columns ``(in,)`` that earlier rounds left, by name of the linear layer without the removed layers.
        share: Share of the removal that is reached with this round, in logarithms of what is left; 1 in the last.
    """

    name: str
    criterion: Criterion
    calibration: Calibration
    scores: Scores | None = None
    units: UnitRanking | None = None
    quick: QuickReconstruction | None = None
    held_out: Mapping[str, Triplets] = field(default_factory=dict)
    removed_layers: tuple[int, ...] = ()
    keep: Mapping[str, Tensor] = field(default_factory=dict)
    share: float = 1.0
