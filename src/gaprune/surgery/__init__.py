"""Turning a decision into a model: weights set to zero or updated, or whole units and rows cut out, in a copy."""

from gaprune.surgery.healing import heal
from gaprune.surgery.kept_tokens import VocabularyCut, close_vocabulary, rank_tokens
from gaprune.surgery.rebuild import rebuild
from gaprune.surgery.token_use import used_tokens
from gaprune.surgery.units import remove_layers, remove_units
from gaprune.surgery.vocabulary import cut_vocabulary
from gaprune.surgery.zeros import Pruning, apply

__all__ = [
    "Pruning",
    "VocabularyCut",
    "apply",
    "close_vocabulary",
    "cut_vocabulary",
    "heal",
    "rank_tokens",
    "rebuild",
    "remove_layers",
    "remove_units",
    "used_tokens",
]
