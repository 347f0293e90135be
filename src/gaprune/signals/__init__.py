"""Measured statistics: one pass over triplets, everything a sum; or block by block."""

from gaprune.signals.checkpoint import Checkpoint
from gaprune.signals.course import Course, Moments
from gaprune.signals.layers import PRESERVATION, LayerEffect, Whole, layer_effects, skipping
from gaprune.signals.loss import info_nce
from gaprune.signals.measure import measure, plan_measurement
from gaprune.signals.placement import check_placement
from gaprune.signals.plan import Plan
from gaprune.signals.stream import BlockStream
from gaprune.signals.sums import MatrixSignals, Quantity, Signals

__all__ = [
    "PRESERVATION",
    "BlockStream",
    "Checkpoint",
    "Course",
    "LayerEffect",
    "MatrixSignals",
    "Moments",
    "Plan",
    "Quantity",
    "Signals",
    "Whole",
    "check_placement",
    "info_nce",
    "layer_effects",
    "measure",
    "plan_measurement",
    "skipping",
]
