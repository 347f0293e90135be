"""A reconstruction that cannot be solved or judged is rolled back, and the report says why."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from gaprune.config.recipe import Recipe
from gaprune.models.linear_layers import linear_layers
from gaprune.models.prompts import Prompts
from gaprune.models.units import unit_groups
from gaprune.pruning.calibration import Calibration
from gaprune.reconstruction import validate
from gaprune.reconstruction.least_squares import UnsolvedError, fit_columns
from gaprune.reconstruction.quick import Quick
from gaprune.reconstruction.reconstruct import Start
from gaprune.reconstruction.validate import reconstruct
from toys import GENERAL


@pytest.fixture
def calibration(toy_triplets):
    return Calibration(toy_triplets, None, Prompts(), frozenset({"domain"}), mined=0, own_negatives={"domain": 0})


@pytest.fixture
def keep(bert):
    return {
        group.name: torch.arange(group.units * group.consumer.columns_per_unit) % 2 == 0
        for group in unit_groups(bert, "width")
    }


def zeroed(keep):
    @torch.no_grad()
    def child_of(model, own):
        child = model if own else copy.deepcopy(model)
        for linear in linear_layers(child):
            if linear.name in keep:
                linear.module.weight *= keep[linear.name]
        return child

    return child_of


def run(bert, keep, calibration, *ridge):
    recipe = Recipe.build({"width": 0.5, "ridge": ridge or (0.1,)})
    return reconstruct(bert, Start(bert), keep, zeroed(keep), calibration, recipe)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_pruned_only(model, bert, keep):
    expected = weights(zeroed(keep)(bert, False))
    assert all(torch.equal(value, expected[name]) for name, value in weights(model).items())


def failing(*, at):
    """Fit as ever, but give up at these ridges."""

    def fit(*args, ridge, name):
        if ridge in at:
            raise UnsolvedError(f"{name}: the least-squares problem does not converge.", "Use a larger ridge.")
        return fit_columns(*args, ridge=ridge, name=name)

    return fit


def test_an_unsolved_reconstruction_is_rolled_back(bert, keep, calibration, monkeypatch):
    before = weights(bert)
    monkeypatch.setattr("gaprune.reconstruction.reconstruct.fit_columns", failing(at={0.1}))
    model, report = run(bert, keep, calibration)
    assert not report.kept
    assert "does not converge" in report.problem
    assert report.degradation_reconstructed == {}
    assert report.degradation_pruned["domain"] > 0
    assert_pruned_only(model, bert, keep)
    assert all(torch.equal(value, before[name]) for name, value in bert.state_dict().items())


def test_a_loss_that_is_not_finite_is_rolled_back(bert, keep, calibration, monkeypatch):
    def broken(weight, bias, moments, kept, *, ridge, name):
        fitted, bias = fit_columns(weight, bias, moments, kept, ridge=ridge, name=name)
        return (fitted * torch.inf if name == list(keep)[-1] else fitted), bias

    monkeypatch.setattr("gaprune.reconstruction.reconstruct.fit_columns", broken)
    model, report = run(bert, keep, calibration, 0.1, 0.3)
    assert not report.kept
    assert "not finite" in report.problem
    assert_pruned_only(model, bert, keep)


def test_another_ridge_takes_over(bert, keep, calibration, monkeypatch):
    monkeypatch.setattr("gaprune.reconstruction.reconstruct.fit_columns", failing(at={0.1}))
    _, report = run(bert, keep, calibration, 0.1, 0.3)
    assert report.ridge == 0.3
    assert report.problem is None
    assert set(report.degradation_reconstructed) == {"domain"}


def test_a_quick_reconstruction_that_is_unsolved_is_pruned_only(bert, keep, calibration, monkeypatch):
    recipe = Recipe.build({"width": 0.5})
    reconstructed = Quick(bert, calibration, recipe)(keep=keep)
    monkeypatch.setattr("gaprune.reconstruction.reconstruct.fit_columns", failing(at={0.1}))
    assert_pruned_only(Quick(bert, calibration, recipe)(keep=keep), bert, keep)
    pruned = weights(zeroed(keep)(bert, False))
    assert any(not torch.equal(value, pruned[name]) for name, value in weights(reconstructed).items())


def test_of_several_ridges_one_that_makes_no_kind_of_data_worse_comes_first(bert, toy_triplets, monkeypatch, capsys):
    """The mean of the second ridge is lower, but it makes general triplets worse; if there is none, a line says so."""
    degradations = {0.1: (0.5, 0.9), 0.2: (0.1, 1.1), 0.3: (0.6, 0.8)}
    monkeypatch.setattr(validate, "reconstructed_copy", lambda *_, ridge, **__: ridge)

    class ReferenceOutputs:
        def __init__(self, _parent, triplets, **_options):
            self.kind = int(triplets.name == GENERAL.name)

        def degradation(self, model):
            return degradations.get(model, (1.0, 1.0))[self.kind]

    monkeypatch.setattr(validate, "ReferenceOutputs", ReferenceOutputs)
    both = {"domain": toy_triplets, "general": GENERAL}
    calibration = SimpleNamespace(of_user=lambda: both, prompts=Prompts())
    for ridges, expected in (((0.1, 0.2, 0.3), 0.1), ((0.2, 0.1), 0.1), ((0.2,), "pruned")):
        recipe = Recipe(width=0.5, ridge=ridges)
        found, report = reconstruct(
            bert, Start(bert), {}, lambda model, own: model if own else "pruned", calibration, recipe
        )
        assert found == expected
        said = capsys.readouterr().err
        assert ("rolled back" in said) == (expected == "pruned")
        assert ("general 1.00 without it and 1.10 with it" in said) == (expected == "pruned")
        assert report.kept == (expected != "pruned")
