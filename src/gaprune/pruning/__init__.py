"""What is removed: budgets, thresholds and masks, and how each thing is cut out of a model."""
