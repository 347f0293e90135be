"""Retraining a pruned model so that it wins back what it lost, with its zeros held."""

from gaprune.recovery.arguments import check_extras, check_training
from gaprune.recovery.corpus import Corpus, read_corpus
from gaprune.recovery.held import held_matrices, zeros_of
from gaprune.recovery.schedule import sparsities, steps_of_rounds
from gaprune.recovery.teacher import Teacher
from gaprune.recovery.train import Training, train

__all__ = [
    "Corpus",
    "Teacher",
    "Training",
    "check_extras",
    "check_training",
    "held_matrices",
    "read_corpus",
    "sparsities",
    "steps_of_rounds",
    "train",
    "zeros_of",
]
