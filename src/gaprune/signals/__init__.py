"""What calibration triplets say about every weight, measured in one streaming pass."""

from gaprune.signals.checkpoint import Checkpoint
from gaprune.signals.loss import info_nce
from gaprune.signals.measure import measure, plan_measurement
from gaprune.signals.plan import Plan
from gaprune.signals.sums import MatrixSignals, Quantity, Signals

__all__ = ["Checkpoint", "MatrixSignals", "Plan", "Quantity", "Signals", "info_nce", "measure", "plan_measurement"]
