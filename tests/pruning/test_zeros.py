"""Applying a decision: exactly the weights named, in a copy, with new values where there are any."""

from __future__ import annotations

import pytest
import torch

from gaprune.errors import ModelError, SelectionError
from gaprune.models.linear_layers import linear_layers
from gaprune.pruning.zeros import Pruning, apply, check_zeros
from unusual import OBSTACLES


def _weights(model):
    return {matrix.name: matrix.module.weight.detach() for matrix in linear_layers(model)}


def _decision(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator) > 0.4 for name, weight in _weights(model).items()}


class TestApply:
    def test_removes_exactly_what_goes(self, model):
        keep = _decision(model)
        after = _weights(apply(model, Pruning(keep)))
        for name, before in _weights(model).items():
            assert torch.equal(after[name], torch.where(keep[name], before, 0))
            assert not torch.signbit(after[name][~keep[name]]).any(), "no negative zeros"

    def test_the_copy_shares_nothing_and_is_of_the_same_kind(self, model):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        pruned = apply(model, Pruning(_decision(model)))
        assert pruned is not model
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        left, right = ({each.data_ptr() for each in one.state_dict().values()} for one in (model, pruned))
        assert left.isdisjoint(right)
        assert [(name, each.requires_grad) for name, each in pruned.named_parameters()] == [
            (name, each.requires_grad) for name, each in model.named_parameters()
        ]
        assert pruned.prompts == model.prompts
        assert pruned.training == model.training

    def test_in_place_when_asked(self, bert):
        keep = _decision(bert)
        parameters = dict(bert.named_parameters())
        assert apply(bert, Pruning(keep), inplace=True) is bert
        assert all(dict(bert.named_parameters())[name] is each for name, each in parameters.items())
        assert all((weight[~keep[name]] == 0).all() for name, weight in _weights(bert).items())

    @pytest.mark.parametrize("kind", ["parametrized", "weight norm", "integers", "one weight"])
    def test_a_weight_that_cannot_be_changed_is_refused(self, bert, kind):
        keep = _decision(bert)
        OBSTACLES[kind][0](bert)
        with pytest.raises(ModelError, match="would not prune it"):
            apply(bert, Pruning(keep))

    def test_matrices_not_named_stay(self, bert):
        name = "encoder.layer.1.output.dense"
        after = _weights(apply(bert, Pruning({name: torch.zeros(32, 48, dtype=torch.bool)})))
        assert not after.pop(name).any()
        assert all(torch.equal(weight, _weights(bert)[other]) for other, weight in after.items())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_updated_weights_take_the_models_type(self, bert, dtype):
        bert.to(dtype)
        keep = _decision(bert)
        name = "encoder.layer.0.output.dense"
        new = torch.randn(32, 48)
        after = _weights(apply(bert, Pruning(keep, {name: new})))
        assert after[name].dtype == dtype
        assert torch.equal(after[name], torch.where(keep[name], new.to(dtype), 0))
        other = "encoder.layer.1.output.dense"
        assert torch.equal(after[other], torch.where(keep[other], _weights(bert)[other], 0))

    @pytest.mark.parametrize("hidden", [torch.nan, torch.inf])
    def test_what_goes_is_zero_whatever_it_was(self, bert, hidden):
        name = "encoder.layer.0.output.dense"
        keep = torch.ones(32, 48, dtype=torch.bool)
        keep[0, 0] = False
        with torch.no_grad():
            _weights(bert)[name][0, 0] = hidden
        assert _weights(apply(bert, Pruning({name: keep})))[name][0, 0] == 0

    def test_twice_is_once(self, bert):
        decision = Pruning(_decision(bert))
        once = apply(bert, decision)
        twice = apply(once, decision)
        assert all(torch.equal(weight, _weights(once)[name]) for name, weight in _weights(twice).items())


class TestCounting:
    def test_a_pruned_weight_that_came_back_is_an_error_with_the_layers_name(self, bert):
        pruning = Pruning(_decision(bert))
        pruned = apply(bert, pruning)
        check_zeros(pruned, pruning)
        name = "encoder.layer.1.output.dense"
        with torch.no_grad():
            _weights(pruned)[name][~pruning.keep[name]] = torch.nan
        with pytest.raises(ModelError, match=rf"{name}: 0 of the .* pruned weights are zero"):
            check_zeros(pruned, pruning)

    def test_kept_weights_that_are_zero_do_not_count(self, bert):
        name = "encoder.layer.1.output.dense"
        keep = torch.ones(32, 48, dtype=torch.bool)
        keep[0, :4] = False
        with torch.no_grad():
            _weights(bert)[name][5] = 0
        check_zeros(apply(bert, Pruning({name: keep})), Pruning({name: keep}))


class TestRefusals:
    @pytest.mark.parametrize("inplace", [False, True])
    @pytest.mark.parametrize(
        ("name", "shape"), [("encoder.layer.7.output.dense", (32, 48)), ("encoder.layer.1.output.dense", (48, 32))]
    )
    def test_a_decision_of_another_model(self, bert, name, shape, inplace):
        keep = _decision(bert) | {name: torch.zeros(shape, dtype=torch.bool)}
        before = {each: tensor.clone() for each, tensor in bert.state_dict().items()}
        with pytest.raises(SelectionError) as caught:
            apply(bert, Pruning(keep), inplace=inplace)
        assert caught.value.problem == f"{name} with shape {shape} is not a linear layer of this model."
        assert caught.value.remedy == "Apply a decision to the model it was made for."
        assert all(torch.equal(tensor, before[each]) for each, tensor in bert.state_dict().items())


def test_counts():
    keep = {"a": torch.tensor([[True, False], [False, False]]), "b": torch.ones(1, 3, dtype=torch.bool)}
    assert Pruning(keep).zeros == 3
    assert Pruning(keep).size == 7
    assert Pruning({}).zeros == Pruning({}).size == 0
