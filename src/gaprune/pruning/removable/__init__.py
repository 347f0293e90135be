"""What can be removed from a model: one file for each kind, found through the registry."""
