"""Quality of an embedding model: own tasks in folders, MTEB benchmarks, side by side with the parent."""
