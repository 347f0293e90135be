"""Cost: parameters, FLOPs, memory, latency."""
