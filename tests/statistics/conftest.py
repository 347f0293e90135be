"""A short way to measure, and the plain loop's answers, computed once a family."""

from __future__ import annotations

import pytest

from gaprune.config.measurement import MeasurementOptions
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.statistics.measure import measure
from plain_loop import PlainLoop, reached

ALL = frozenset({"fisher", "gradient", "gram", "input_square"})


@pytest.fixture
def two_forwards_a_batch(monkeypatch):
    """Let a forward pass be so dear to start that the queries of a batch make one, and its passages another."""
    monkeypatch.setattr("gaprune.statistics.forward._TOKENS", {"cpu": (2048, 2048)})


@pytest.fixture
def measured():
    """Return a function that measures everything, or what is asked for, of a model."""

    def run(model, triplets, *, linear_layers=None, statistics=ALL, prompts=None, cache=None, **options):
        return measure(
            model,
            triplets,
            reached(model) if linear_layers is None else linear_layers,
            statistics=statistics,
            prompts=prompts or Prompts(),
            options=MeasurementOptions(**options),
            cache=cache,
        )

    return run


@pytest.fixture(scope="session")
def plain_explicit(family_folder, toy_triplets):
    """The gradients of every toy triplet's own loss, by name ``(triplets, out, in)``."""
    return PlainLoop(load_model(family_folder, device="cpu")).explicit(toy_triplets)


@pytest.fixture(scope="session")
def plain_inputs(family_folder, toy_triplets):
    """The inputs of every matrix over the toy texts, by name ``(tokens, in)``."""
    return PlainLoop(load_model(family_folder, device="cpu")).inputs(toy_triplets)
