"""Importance and a budget in, which weights stay out; exact to the last weight."""

from gaprune.masks.allocation import keep_masks, zeros_per_matrix
from gaprune.masks.budget import budget, lowest, shares
from gaprune.masks.pattern import check_pattern, pattern_mask

__all__ = ["budget", "check_pattern", "keep_masks", "lowest", "pattern_mask", "shares", "zeros_per_matrix"]
