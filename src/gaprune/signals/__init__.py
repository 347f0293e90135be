"""What calibration triplets say about every weight, measured in one streaming pass."""

from gaprune.signals.loss import info_nce
from gaprune.signals.measure import measure
from gaprune.signals.sums import MatrixSignals, Quantity, Signals

__all__ = ["MatrixSignals", "Quantity", "Signals", "info_nce", "measure"]
