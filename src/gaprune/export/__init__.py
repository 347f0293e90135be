"""Output folders with their provenance, archives, and graphs for other runtimes."""
