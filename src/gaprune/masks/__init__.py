"""Importance and a budget in, which weights stay out; exact to the last weight."""

from gaprune.masks.allocation import keep_masks, zeros_per_matrix
from gaprune.masks.budget import budget, shares
from gaprune.masks.pattern import check_pattern, pattern_mask
from gaprune.masks.threshold import lowest, lowest_of

__all__ = [
    "budget",
    "check_pattern",
    "keep_masks",
    "lowest",
    "lowest_of",
    "pattern_mask",
    "shares",
    "zeros_per_matrix",
]
