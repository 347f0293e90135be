"""What can be removed: the interface, the registry, and another kind that touches nothing else."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from torch import nn

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.models.blocks import blocks
from gaprune.pipelines.result import Result
from gaprune.pruning.removable import base as registry
from gaprune.pruning.removable.base import (
    Removable,
    RemovedUnits,
    StructuredPruning,
    available,
    register,
    requested,
    stages,
)

SMALL = {"round_to": 8, "layer_triplets": 5, "reconstruct": False}
HEADS = ("qwen3", "mistral", "llama", "gemma")


def test_the_kinds_and_their_order():
    structured = [kind.name for kind in available() if kind.is_structured]
    assert structured == ["depth", "heads", "hidden", "width", "vocabulary"]
    assert [kind.name for kind in available() if not kind.is_structured] == ["N:M", "weight"]
    assert all(kind.label and kind.option in Recipe.model_fields for kind in available() if kind.name != "N:M")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["weight"]),
        ({"granularity": "2:4"}, ["N:M"]),
        ({"width": 0.5}, ["width"]),
        ({"width": 0.5, "heads": 0.5, "depth": 1, "tokens": 0.5}, ["depth", "heads", "width", "vocabulary"]),
        ({"hidden": 0.5, "width": 0.5}, ["hidden", "width"]),
        ({"target": "speedup=2"}, ["depth", "width"]),
    ],
)
def test_a_recipe_asks_for_kinds(options, names):
    assert [each.name for each in requested(Recipe.build(options))] == names


def test_heads_and_neurons_are_chosen_together():
    found = requested(Recipe.build({"width": 0.5, "heads": 0.5, "depth": 1, "tokens": 0.5}))
    names = [[each.name for each in stage] for stage in stages(found)]
    assert names == [["depth"], ["heads", "width"], ["vocabulary"]]


def test_every_parameter_counts_once(bert, toy_triplets):
    """The neurons are inside the layers that are up for removal too."""
    result = gaprune.prune(bert, domain=toy_triplets, width=0.5, depth=1, **SMALL)
    assert result.selected == sum(weight.numel() for block in blocks(bert) for weight in block.parameters())


def test_several_amounts_give_a_result_each(bert, toy_triplets, tmp_path):
    options = {"domain": toy_triplets, "width": (0.25, 0.5), "depth": 1, **SMALL}
    results = list(gaprune.prune_many(bert, out=tmp_path / "out", **options))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["width-0.25", "width-0.5"]
    for result, fraction in zip(results, (0.25, 0.5), strict=True):
        alone = gaprune.prune(bert, **options | {"width": fraction})
        for name, value in alone.model.state_dict().items():
            assert torch.equal(value, result.model.state_dict()[name])


def test_general_data_that_the_user_did_not_name(bert, toy_triplets, monkeypatch):
    """A criterion reads the public data; the reconstruction is fitted on domain triplets alone."""
    general = toy_triplets[:5]
    monkeypatch.setattr("gaprune.pruning.calibration.read_general", lambda *_, **__: general)
    for options in ({"criterion": "activation-mix", "depth": 1}, {"criterion": "dai:general_share=0.2", "depth": 1}):
        result = gaprune.prune(bert, domain=toy_triplets, layer_triplets=5, **options)
        assert result.provenance().method.reconstruction is not None
        assert len(blocks(result.model)) == 1


class TestAnotherKind:
    """A kind is a registered class and its option; nothing else of ours knows it."""

    @pytest.fixture
    def biases(self, monkeypatch):
        available()
        monkeypatch.setattr(registry._removables, "registered", dict(registry._removables.registered))

        @register
        class Biases(Removable[RemovedUnits]):
            """Biases of the attention output; a toy that takes over the option of heads."""

            name: ClassVar[str] = "biases"
            option: ClassVar[str] = "heads"
            label: ClassVar[str] = "biases"
            order: ClassVar[int] = 15
            ranked_by: ClassVar[None] = None

            def check(self, model):
                assert self.parameters(model)

            def parameters(self, model):
                return [block.attention.output.dense.bias for block in blocks(model)]

            def choose(self, model, amount, basis):
                count = round(amount * len(blocks(model)))
                return RemovedUnits(self.name, self.label, count, len(blocks(model)), {"layers kept": [count]})

            def cut(self, model, choice):
                child = copy.deepcopy(model)
                for block in blocks(child)[: choice.removed]:
                    block.attention.output.dense.bias = nn.Parameter(torch.zeros(0))
                return child

        del registry._removables.registered["heads"]
        return Biases

    def test_it_is_removed_counted_and_reported(self, bert, biases):
        before = sum(weight.numel() for weight in bert.parameters())
        result = gaprune.prune(bert, heads=0.5, criterion="magnitude")
        assert isinstance(result, Result)
        assert isinstance(result.change, StructuredPruning)
        assert [(cut.kind, cut.removed, cut.total) for cut in result.change.cuts] == [(biases.name, 1, 2)]
        assert result.selected == 2 * 32
        assert result.removed == 32 == before - sum(weight.numel() for weight in result.model.parameters())
        (record,) = result.provenance().method.pruning.removed
        assert (record.kind, record.label) == ("biases", "biases")
        assert "1 of 2 biases" in repr(result)

    def test_a_name_belongs_to_one_class(self, biases):
        class Other(biases):
            pass

        with pytest.raises(ValueError, match="'biases' belongs to"):
            register(Other)
