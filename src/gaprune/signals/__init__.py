"""Measured statistics: one pass over triplets, everything a sum; or block by block."""

from gaprune.signals.loss import info_nce
from gaprune.signals.measure import measure
from gaprune.signals.stream import BlockStream, Moments
from gaprune.signals.sums import MatrixSignals, Quantity, Signals

__all__ = ["BlockStream", "MatrixSignals", "Moments", "Quantity", "Signals", "info_nce", "measure"]
