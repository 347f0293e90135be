"""Calibration statistics: one streaming pass over triplets; everything is a sum, so sums add."""
