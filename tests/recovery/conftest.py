"""Pruned tiny models and triplets to recover them with."""

from __future__ import annotations

import random

import pytest

import gaprune
from gaprune.config.recovery import RecoveryOptions
from gaprune.data.triplets import Triplet, Triplets

_WORDS = [
    "the",
    "bank",
    "raised",
    "rate",
    "of",
    "interest",
    "on",
    "every",
    "loan",
    "it",
    "had",
    "lent",
    "net",
    "income",
    "quarter",
    "was",
    "lower",
    "than",
    "a",
    "year",
    "before",
    "cash",
]


@pytest.fixture(scope="session")
def many():
    """Forty triplets of different texts."""
    draw = random.Random(0)  # noqa: S311 (no secret)

    def text(words):
        return " ".join(draw.sample(_WORDS, words))

    return Triplets([Triplet(text(4), text(6), (text(5),), f"many:{line}") for line in range(1, 41)], "many")


@pytest.fixture
def quick():
    """Options of a short recovery."""

    def options(**given):
        return RecoveryOptions.build(
            {"steps": 3, "batch_size": 6, "evaluate_every": 2, "learning_rate": 1e-2, "general_share": 0}, given
        )

    return options


@pytest.fixture
def pruned(model):
    """This family's tiny model with half of all matrices zero."""
    return gaprune.prune(model, criterion="magnitude", sparsity=0.5, targets="all").model
