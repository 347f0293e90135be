"""Turning a decision into a model: weights set to zero (or updated) in a copy of the parent, or rows cut out."""

from gaprune.surgery.kept_tokens import VocabularyCut, close_vocabulary, rank_tokens
from gaprune.surgery.token_use import used_tokens
from gaprune.surgery.vocabulary import cut_vocabulary
from gaprune.surgery.zeros import Pruning, apply

__all__ = [
    "Pruning",
    "VocabularyCut",
    "apply",
    "close_vocabulary",
    "cut_vocabulary",
    "rank_tokens",
    "used_tokens",
]
