"""Opening a model, and where it keeps its blocks, linear layers, units and vocabulary."""
