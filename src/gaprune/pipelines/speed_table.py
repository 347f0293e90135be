"""How fast the shapes of a parent's children are, by timing a few of them: nothing is pruned for that.

A model whose units are cut at random has the speed of any other model of the same shape. The time of a shape is the
sum of what does not depend on the layers and of the times of its layers, which depend on their width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaprune.evaluation.cost.latency import Speed
from gaprune.pruning.costs import Shape, of_shape
from gaprune.pruning.removable.layers import most_removable
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ROUNDS, _ROUNDS_OF_ONE = 3, 5
"""How often each model is timed for the table, and to confirm a single shape."""

_CLOSE = 0.02
"""An estimate that differs from the measured speed of the same shape by less than this fraction is right."""

_TRIES = 3

_Times = NDArray[np.float64]
"""Times for both workloads of a :class:`Speed`, as fractions of the parent's, ``(2,)``."""


@dataclass(frozen=True)
class _Layers:
    """Times for one hidden size and number of heads: of what does not depend on the layers, of a layer by width."""

    rest: _Times
    by_width: dict[int, _Times]

    def of(self, shape: Shape) -> _Times:
        widths = sorted(self.by_width)
        layer: _Times = np.array(
            [
                np.interp(shape.width, widths, [self.by_width[width][workload] for width in widths])
                for workload in range(len(self.rest))
            ]
        )
        times: _Times = self.rest + shape.layers * layer
        return times


class SpeedTable:
    """Measured speeds of shapes; those of a hidden size and number of heads are timed when first asked about.

    Args:
        parent: The parent; it is not changed.
        measure: Measures the speed of a model beside the parent, in so many rounds.
        fewest: The fewest FFN neurons that a layer can have.
    """

    def __init__(
        self, parent: SentenceTransformer, measure: Callable[[SentenceTransformer, int], Speed], *, fewest: int
    ) -> None:
        self._parent, self._measure, self._fewest = parent, measure, fewest
        self._whole = Shape.of(parent)
        self._timed: dict[Shape, _Layers] = {}
        self._factor, self._tries = 1.0, 0

    def speedup(self, shape: Shape) -> float:
        """Return how many times faster than its parent a model of this shape is, by the table."""
        whole = self._whole.changed(hidden=shape.hidden, heads=shape.heads)
        if whole not in self._timed:
            self._timed[whole] = self._layers_of(whole)
        times = self._timed[whole].of(shape)
        return float(self._factor / np.sqrt(times.prod()))

    def confirms(self, shape: Shape) -> bool:
        """Time a shape itself and return whether the table is right about it; if not, correct the table.

        Right means to 2 %, or to twice the standard error of the timing.

        After three times it is taken to be right: the timings of this machine scatter more than that.
        """
        self._tries += 1
        if self._tries > _TRIES:
            return True
        return self._agrees(shape, self._measure(of_shape(self._parent, shape), _ROUNDS_OF_ONE))

    def learn(self, shape: Shape, speed: Speed) -> bool:
        """Let the table say what was measured of a finished model, and confirm no other shape after that.

        Returns whether it said so before, in the same sense.
        """
        self._tries = _TRIES
        return self._agrees(shape, speed)

    def _agrees(self, shape: Shape, speed: Speed) -> bool:
        ratio = speed.speedup / self.speedup(shape)
        if abs(ratio - 1) <= max(_CLOSE, 2 * speed.error):
            return True
        self._factor *= ratio
        return False

    def _layers_of(self, whole: Shape) -> _Layers:
        """Return the times of layers as those of a shape, by timing shapes that differ in width or depth from it."""
        shallow = whole.changed(layers=whole.layers - most_removable(self._parent))
        widths = sorted({min(self._fewest, whole.width), max(self._fewest, whole.width // 2), whole.width})
        shapes = [whole.changed(width=width) for width in widths]
        say("Timing models of other shapes beside the parent; nothing is pruned for that.")
        found = {shape: self._times(shape) for shape in dict.fromkeys([*shapes, shallow])}
        apart = whole.layers - shallow.layers
        layer = (found[whole] - found[shallow]) / apart if apart else found[whole] / whole.layers
        least = np.min(list(found.values()), axis=0)
        rest = np.clip(found[whole] - whole.layers * layer, 0, 0.9 * least)  # timings scatter; a layer takes time
        return _Layers(rest, {shape.width: (found[shape] - rest) / whole.layers for shape in shapes})

    def _times(self, shape: Shape) -> _Times:
        if shape == self._whole:
            return np.ones(2)
        speed = self._measure(of_shape(self._parent, shape), _ROUNDS)
        return 1 / np.array([speed.latency, speed.throughput])
