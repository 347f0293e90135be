"""Block-wise least squares towards the parent: streams, hook points, moments, solve, validate."""
