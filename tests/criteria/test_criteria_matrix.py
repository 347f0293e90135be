"""Every registered criterion through every behaviour that its interfaces promise."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from gaprune.criteria.base import LayerCriterion, UnitCriterion, WeightCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs
from gaprune.criteria.registry import available, create
from gaprune.statistics.degradation import LayerEffect
from gaprune.statistics.sums import LinearStatistics

OUT, UNITS, COLUMNS = 4, 6, 2
DRAWS = {"random"}
PLACES = {"random", "dai-paper", "sparsegpt"}  # noise, smoothing over neighbours, a sweep: a weight's place counts
SCALED = {"dai-paper"}  # a sum of two powers of the weight


def names(interface, but=frozenset()):
    return sorted(name for name, kind in available().items() if issubclass(kind, interface) and name not in but)


@pytest.fixture
def units() -> UnitInputs:
    draw = torch.Generator().manual_seed(0)
    size = UNITS * COLUMNS

    def statistics(seed):
        draw = torch.Generator().manual_seed(seed)
        inputs, deltas = torch.randn(40, size, generator=draw), torch.randn(40, OUT, generator=draw)
        gates = torch.randn(9, UNITS, generator=draw)
        return LinearStatistics(
            "down",
            samples=9,
            triplets=9,
            tokens=40,
            gram_sum=inputs.T @ inputs,
            input_sum=inputs.sum(0),
            input_square_sum=inputs.square().sum(0),
            output_gram_sum=deltas.T @ deltas,
            gate_sum=gates.sum(0),
            gate_square_sum=gates.square().sum(0),
        )

    return UnitInputs(
        name="down",
        weight=torch.randn(OUT, UNITS, COLUMNS, generator=draw),
        producer_square=torch.rand(UNITS, generator=draw),
        domain=statistics(1),
        general=statistics(2),
        seed=3,
    )


def layers():
    return [
        LayerInputs(
            layer, 5.0 + layer, *(LayerEffect(layer, 0.1 * layer * k, 0.2, 0.3 + layer) for k in (1, 2)), seed=4
        )
        for layer in range(3)
    ]


def permuted(statistics, order, rows=None):
    """The statistics of the layer with its inputs, and its outputs, in another order."""
    rows = torch.arange(OUT) if rows is None else rows
    inputs, outputs, both = (lambda sums: sums[order]), (lambda sums: sums[rows]), (lambda sums: sums[rows][:, order])
    move = {
        "fisher_sum": both,
        "gradient_sum": both,
        "gram_sum": lambda sums: sums[order][:, order],
        "input_sum": inputs,
        "input_square_sum": inputs,
        "output_gram_sum": lambda sums: sums[rows][:, rows],
        "output_square_sum": outputs,
    }
    moved = {name: move[name](sums) for name, sums in statistics.sums().items() if name in move}
    return replace(statistics, **moved)


@pytest.mark.parametrize("name", sorted(available()))
def test_it_says_what_it_is(name):
    kind = available()[name]
    criterion = create(name)
    assert type(criterion) is kind
    assert issubclass(kind, WeightCriterion | UnitCriterion | LayerCriterion)
    texts = [kind.summary, kind.source, kind.__doc__]
    texts += [kind.unit_summary] if issubclass(kind, UnitCriterion) else []
    texts += [kind.layer_summary] if issubclass(kind, LayerCriterion) else []
    assert all(text.strip() and "\n" not in text for text in texts[:2] + texts[3:])
    for constant, field in kind.model_fields.items():
        assert field.description, constant
        assert field.description.endswith("."), constant
    assert create(name, criterion.model_dump()) == criterion


@pytest.mark.parametrize("name", names(WeightCriterion))
class TestWeights:
    def test_shape_type_and_determinism(self, name, evidence):
        importance = create(name).importance(evidence)
        assert importance.shape == evidence.weight.shape
        assert importance.dtype == torch.float32
        assert torch.isfinite(importance).all()
        assert torch.equal(importance, create(name).importance(evidence))

    def test_arguments_are_untouched(self, name, evidence):
        before = {
            (side, key): value.clone()
            for side in ("domain", "general")
            for key, value in getattr(evidence, side).sums().items()
        }
        weight = evidence.weight.clone()
        criterion = create(name)
        criterion.importance(evidence)
        if criterion.uses_second_moments:
            criterion.second_moments(evidence)
        assert torch.equal(weight, evidence.weight)
        assert all(torch.equal(value, getattr(evidence, side).sums()[key]) for (side, key), value in before.items())

    def test_zero_weights_and_statistics_are_finite(self, name, evidence):
        empty = {
            side: replace(
                getattr(evidence, side),
                **{key: torch.zeros_like(value) for key, value in getattr(evidence, side).sums().items()},
            )
            for side in ("domain", "general")
        }
        nothing = replace(evidence, weight=torch.zeros_like(evidence.weight), **empty)
        assert torch.isfinite(create(name).importance(nothing)).all()

    def test_second_moments_are_square_and_symmetric_if_they_are_used(self, name, evidence):
        criterion = create(name)
        if criterion.uses_second_moments:
            moments = criterion.second_moments(evidence)
            assert moments.shape == (evidence.weight.shape[1],) * 2
            torch.testing.assert_close(moments, moments.T)
        else:
            with pytest.raises(NotImplementedError, match=evidence.name):
                criterion.second_moments(evidence)


@pytest.mark.parametrize("name", names(UnitCriterion))
class TestUnits:
    def test_shape_type_and_determinism(self, name, units):
        importance = create(name).unit_importance(units)
        assert importance.shape == (UNITS,)
        assert importance.dtype == torch.float32
        assert torch.isfinite(importance).all()
        assert torch.equal(importance, create(name).unit_importance(units))

    def test_the_scale_of_the_weights_does_not_change_the_order(self, name, units):
        first, second = (
            create(name).unit_importance(each).argsort() for each in (units, replace(units, weight=4 * units.weight))
        )
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", names(LayerCriterion))
class TestLayers:
    def test_a_finite_number_that_is_the_same_every_time(self, name):
        criterion = create(name)
        importance = [criterion.layer_importance(each) for each in layers()]
        assert all(isinstance(each, float) for each in importance)
        assert torch.tensor(importance).isfinite().all()
        assert importance == [criterion.layer_importance(each) for each in layers()]

    def test_its_needs_are_enough(self, name):
        criterion = create(name)
        for each in layers():
            absent = {
                field.name: None
                for field in fields(each)
                if field.name in {"domain", "general"} and field.name not in criterion.layer_needs
            }
            assert criterion.layer_importance(replace(each, **absent)) == criterion.layer_importance(each)

    def test_judging_has_a_weight_for_the_distance_of_embeddings(self, name):
        assert create(name).preservation_weight >= 0


@pytest.mark.parametrize("name", names(WeightCriterion, but=PLACES))
def test_the_order_of_inputs_and_outputs_does_not_matter(name, evidence):
    rows, order = torch.tensor([2, 0, 3, 1]), torch.tensor([4, 2, 0, 1, 3])
    moved = replace(
        evidence,
        weight=evidence.weight[rows][:, order],
        domain=permuted(evidence.domain, order, rows),
        general=permuted(evidence.general, order, rows),
    )
    expected = create(name).importance(evidence)[rows][:, order]
    torch.testing.assert_close(create(name).importance(moved), expected)


@pytest.mark.parametrize("name", names(WeightCriterion, but=SCALED))
def test_the_scale_of_the_weights_does_not_change_the_order_of_weights(name, evidence):
    scaled = replace(evidence, weight=4 * evidence.weight)
    first, second = (create(name).importance(each).flatten().argsort() for each in (evidence, scaled))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", names(UnitCriterion, but=DRAWS))
def test_the_order_of_units_does_not_matter(name, units):
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    columns = (order[:, None] * COLUMNS + torch.arange(COLUMNS)).flatten()

    def moved(statistics):
        gates = {key: getattr(statistics, key)[order] for key in ("gate_sum", "gate_square_sum")}
        return replace(permuted(statistics, columns), **gates)

    given = replace(
        units,
        weight=units.weight[:, order],
        producer_square=units.producer_square[order],
        domain=moved(units.domain),
        general=moved(units.general),
    )
    torch.testing.assert_close(create(name).unit_importance(given), create(name).unit_importance(units)[order])
