"""Checking calibration data: sizes, lengths, duplicates, contradictions and overlaps."""
