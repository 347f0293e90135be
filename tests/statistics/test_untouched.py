"""Measuring leaves the model as it was, also when it fails."""

from __future__ import annotations

import pytest
import torch

from gaprune.errors import MeasurementError
from gaprune.models.linear_layers import linear_layers

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _state(model):
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        {name: module.training for name, module in model.named_modules()},
        {name: [len(getattr(module, kind)) for kind in _HOOKS] for name, module in model.named_modules()},
    )


def _assert_same(model, before):
    after = _state(model)
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert before[1:] == after[1:]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.fixture
def mixed(model):
    """A model in an odd state: half in training mode, some weights frozen, a hook of the caller's."""
    model.train()
    model[0].eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    model[0].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("wanted", [{"gram"}, {"fisher"}, {"fisher", "gradient", "gram"}])
def test_after_success(mixed, toy_triplets, measured, wanted):
    before = _state(mixed)
    measured(mixed, toy_triplets, statistics=wanted, batch_size=3)
    _assert_same(mixed, before)


def test_after_an_error_in_the_forward(mixed, toy_triplets, measured):
    def fail(*_):
        raise KeyboardInterrupt

    handle = mixed[1].register_forward_hook(fail)
    before = _state(mixed)
    with pytest.raises(KeyboardInterrupt):
        measured(mixed, toy_triplets)
    _assert_same(mixed, before)
    handle.remove()
    assert measured(mixed, toy_triplets)


def test_after_an_error_in_the_backward(mixed, toy_triplets, measured):
    def spoil(_module, _args, output):
        output["sentence_embedding"].register_hook(lambda gradient: gradient * torch.nan)

    handle = mixed[1].register_forward_hook(spoil)
    before = _state(mixed)
    with pytest.raises(MeasurementError, match="gradient is not finite"):
        measured(mixed, toy_triplets)
    _assert_same(mixed, before)
    handle.remove()
    assert measured(mixed, toy_triplets)


@pytest.mark.usefixtures("two_forwards_a_batch")
def test_nothing_is_differentiated_meanwhile(model, toy_triplets, measured):
    """No weight gets a gradient of autograd's own, the embedding table least of all; dropout is off."""
    seen = []
    table = model.transformers_model.get_input_embeddings()

    def look(module, _args, output):
        seen.append((module.weight.requires_grad, output.grad_fn, any(p.requires_grad for p in model.parameters())))
        assert not any(part.training for part in model.modules())

    table.register_forward_hook(look)
    model.train()
    measured(model, toy_triplets)
    assert seen == [(False, None, False)] * 2
    assert table.weight.grad is None


def test_matrices_not_asked_for_are_not_measured(model, toy_triplets, measured):
    chosen = [matrix for matrix in linear_layers(model) if matrix.kind == "mlp"]
    statistics = measured(model, toy_triplets, linear_layers=chosen)
    assert list(statistics) == [matrix.name for matrix in chosen]
    everything = measured(model, toy_triplets)
    assert all(torch.equal(statistics[name].fisher, everything[name].fisher) for name in statistics)
