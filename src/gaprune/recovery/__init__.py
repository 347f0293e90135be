"""Retraining a pruned model so that it wins back what it lost, with its zeros held."""
