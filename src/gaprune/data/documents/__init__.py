"""Making triplets from plain documents: reading, cutting into passages, pairing with queries, choosing negatives."""
