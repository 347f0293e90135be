"""Scores of every weight: computed matrix by matrix, kept in a file, asked again at any sparsity."""

from gaprune.scores.scores import Scores, StorageType, score, writing_scores

__all__ = ["Scores", "StorageType", "score", "writing_scores"]
