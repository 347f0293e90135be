"""Importance of whole units, against what removing them would really do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaprune.criteria.base import LayerCriterion, UnitCriterion
from gaprune.criteria.inputs import LayerInputs, UnitInputs
from gaprune.criteria.registry import available, create
from gaprune.criteria.swaps import greedy_order
from gaprune.errors import MeasurementError
from gaprune.statistics.degradation import LayerEffect
from gaprune.statistics.sums import LinearStatistics

UNITS, COLUMNS, OUTPUTS, TOKENS = 4, 3, 5, 60
BOTH = ("domain", "general")


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments(rows):
    return rows.T @ rows


@pytest.fixture
def inputs():
    return {data: draw(seed, TOKENS, 12) @ draw(seed + 10, 12, 12) for seed, data in enumerate(BOTH)}


@pytest.fixture
def gradients():
    return {data: draw(seed + 20, TOKENS, OUTPUTS) for seed, data in enumerate(BOTH)}


@pytest.fixture
def evidence(inputs, gradients):
    def statistics(data, seed):
        gates = draw(seed, 7, UNITS)
        return LinearStatistics(
            "down",
            triplets=7,
            tokens=TOKENS,
            gram_sum=moments(inputs[data]),
            input_sum=inputs[data].sum(0),
            input_square_sum=inputs[data].square().sum(0),
            output_gram_sum=moments(gradients[data]),
            gate_sum=gates.sum(0),
            gate_square_sum=gates.square().sum(0),
        )

    weight = draw(5, OUTPUTS, UNITS, COLUMNS)
    return UnitInputs(
        name="down",
        weight=weight,
        producer_square=draw(6, UNITS).square(),
        domain=statistics("domain", 7),
        general=statistics("general", 8),
    )


def dai(**options):
    return create("dai", {"general_share": 0, "reconstruction_aware": False} | options)


def moved(evidence, inputs, gradients, units, *, general, centred):
    """How far outputs move, seen through the output gradients, without some units: token by token."""
    gone = evidence.weight.clone().double()
    gone[:, [unit for unit in range(UNITS) if unit not in units]] = 0
    changes = {data: inputs[data].double() @ gone.flatten(1).T for data in BOTH}
    alike = (changes["domain"].mean(0) + general * changes["general"].mean(0)) / (1 + general)
    return sum(
        weight * float((gradient.double() @ (each - alike * centred)) ** 2)
        for data, weight in zip(BOTH, (1, general), strict=True)
        for each in changes[data]
        for gradient in gradients[data]
    )


def greedy(cost):
    """The place of every unit when each time the one goes that costs least together with those that went."""
    gone = []
    while len(gone) < UNITS:
        left = [unit for unit in range(UNITS) if unit not in gone]
        gone.append(min(left, key=lambda unit: cost([*gone, unit])))
    return torch.tensor([float(gone.index(unit)) for unit in range(UNITS)])


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("share", [0.0, 1 / 3])
def test_dai_removes_what_moves_embeddings_least_together(evidence, inputs, gradients, share, centred):
    general = share / (1 - share)

    def cost(units):
        return moved(evidence, inputs, gradients, units, general=general, centred=centred)

    dai = create("dai", {"general_share": share, "reconstruction_aware": False, "centred": centred})
    domain, other = evidence.domain, evidence.general
    if general:  # the guard mixes moments, so that only inputs or only gradients may differ for sums to be exact
        other = replace(other, output_gram_sum=domain.output_gram_sum)
        gradients["general"] = gradients["domain"]
    given = replace(evidence, domain=domain, general=other)
    assert torch.equal(dai.unit_importance(given), greedy(cost))


def test_units_that_cancel_go_together():
    """Two units whose outputs are opposite: either alone is dear, both together cost nothing."""
    weight = torch.eye(2)[:, [0, 0, 1]][:, :, None]
    inputs = torch.tensor([[1.0, -1.0, 0.3], [2.0, -2.0, -0.3], [-1.0, 1.0, 0.3]])
    statistics = LinearStatistics(
        "down", triplets=1, tokens=3, gram_sum=moments(inputs), output_gram_sum=3 * torch.eye(2)
    )
    places = dai(centred=False).unit_importance(
        UnitInputs(name="down", weight=weight, producer_square=torch.ones(3), domain=statistics)
    )
    assert places.tolist() == [1.0, 2.0, 0.0]
    loss = (weight.flatten(1).T @ weight.flatten(1)) * moments(inputs)
    loss[2, 2] = 7.0
    assert greedy_order(loss).tolist() == [0.0, 1.0, 2.0]


def test_what_all_tokens_lose_alike_is_no_loss():
    """A unit that is dear to lose but always the same goes before one that is cheap and varies."""
    inputs = torch.tensor([[5.0, 1.0], [5.0, -1.0], [5.0, 0.0]])
    statistics = LinearStatistics(
        "down", triplets=1, tokens=3, gram_sum=moments(inputs), input_sum=inputs.sum(0), output_gram_sum=torch.eye(2)
    )
    evidence = UnitInputs(
        name="down", weight=torch.eye(2)[:, :, None], producer_square=torch.ones(2), domain=statistics
    )
    orders = {
        centred: create("dai", {"general_share": 0, "centred": centred, "reconstruction_aware": False})
        .unit_importance(evidence)
        .tolist()
        for centred in (True, False)
    }
    assert orders == {True: [0.0, 1.0], False: [1.0, 0.0]}


def test_alignment_scales_what_units_cost_by_the_cosine_of_gates(evidence):
    domain, general = evidence.domain, evidence.general
    cosine = domain.gate_sum * general.gate_sum / (domain.gate_square_sum * general.gate_square_sum).sqrt() / 7
    assert cosine.abs().max() <= 1
    left = evidence.weight.flatten(1)
    covariance = domain.gram - torch.outer(domain.input, domain.input)
    loss = (left.T @ domain.output_gram @ left * covariance).view(UNITS, COLUMNS, UNITS, COLUMNS).sum((1, 3))
    factor = (1 + 0.9 * cosine).sqrt()
    aligned = create("dai", {"alpha": 0.9, "general_share": 0, "reconstruction_aware": False}).unit_importance(
        evidence
    )
    assert torch.equal(aligned, greedy_order(factor[:, None] * loss * factor))


def test_baselines(evidence, inputs):
    rows = inputs["domain"].view(TOKENS, UNITS, COLUMNS)
    weight = evidence.weight
    expected = {
        "magnitude": evidence.producer_square.sqrt() * weight.square().sum((0, 2)).sqrt(),
        "activation": rows.square().sum(2).mean(0).sqrt(),
        "wanda": (rows.square().mean(0) * weight.square().sum(0)).sum(1).sqrt(),
        "fisher": evidence.domain.gate_square_sum / 7,
        "taylor": (evidence.domain.gate_sum / 7).abs(),
    }
    for name, importance in expected.items():
        torch.testing.assert_close(create(name).unit_importance(evidence), importance)
    general = create("fisher-general").unit_importance(evidence)
    torch.testing.assert_close(general, evidence.general.gate_square_sum / 7)
    mix = create("fisher-mix").unit_importance(evidence)
    torch.testing.assert_close(mix, (general + expected["fisher"]) / 2)


def test_random_depends_on_seed_and_name(evidence):
    def at(name, seed):
        return create("random").unit_importance(replace(evidence, name=name, domain=None, general=None, seed=seed))

    assert torch.equal(at("a", 0), at("a", 0))
    assert not torch.equal(at("a", 0), at("a", 1))
    assert not torch.equal(at("a", 0), at("b", 0))


@pytest.mark.parametrize("name", [name for name, kind in available().items() if issubclass(kind, UnitCriterion)])
def test_needs_are_what_is_looked_at(name, evidence):
    """With only the statistics it says it needs a criterion gives the same."""
    fields = {
        "gram": "gram_sum", "input": "input_sum", "input_square": "input_square_sum", "output_gram": "output_gram_sum",
        "gate": "gate_sum",
    }  # fmt: skip
    options = {"general_share": 1 / 3, "alpha": 0.1} if name == "dai" else {}
    criterion = create(name, options)

    def only(statistics, needs):
        kept = {fields[need]: getattr(statistics, fields[need]) for need in needs}
        gates = {"gate_square_sum": statistics.gate_square_sum} if "gate" in needs else {}
        return LinearStatistics("down", triplets=7, tokens=TOKENS, **kept, **gates)

    least = replace(
        evidence,
        domain=only(evidence.domain, criterion.unit_needs.domain),
        general=only(evidence.general, criterion.unit_needs.general),
    )
    torch.testing.assert_close(criterion.unit_importance(least), criterion.unit_importance(evidence))


def test_missing_signals_are_named(evidence):
    bare = replace(evidence, domain=None, general=None)
    with pytest.raises(MeasurementError, match="down: no statistics of domain data"):
        create("dai").unit_importance(bare)


def effect(layer, loss):
    return LayerEffect(layer, loss=loss, distance=0.1 * layer, block_influence=0.2 + 0.1 * layer)


def test_layers():
    evidence = [LayerInputs(layer, 10.0 - layer, effect(layer, 1.0), effect(layer, 3.0)) for layer in range(3)]
    scored = {
        name: [create(name).layer_importance(each) for each in evidence]
        for name in (
            "dai",
            "dai:preservation=0",
            "dai:general_share=0",
            "dai:preservation=0:general_share=0.2",
            "magnitude",
            "activation",
            "activation-mix",
        )
    }
    assert scored["dai:general_share=0"] == [1.0, 1.5, 2.0]
    assert scored["dai"] == pytest.approx([1.9, 2.55, 3.2])
    assert scored["dai:preservation=0"] == pytest.approx([1.9, 1.9, 1.9])
    assert scored["dai:preservation=0:general_share=0.2"] == pytest.approx([1.75, 1.75, 1.75])
    assert scored["magnitude"] == [10.0, 9.0, 8.0]
    assert scored["activation"] == scored["activation-mix"] == pytest.approx([0.2, 0.3, 0.4])


def test_random_layers_depend_on_the_seed_alone():
    def at(seed):
        return [create("random").layer_importance(LayerInputs(layer, float(seed), seed=seed)) for layer in range(4)]

    assert at(0) == at(0)
    assert len({*at(0), *at(1)}) == 8


def test_layers_need_what_they_look_at():
    bare = LayerInputs(2, 1.0)
    for name in ("dai:general_share=0", "activation"):
        with pytest.raises(MeasurementError, match=r"layer 2: no effect on domain data"):
            create(name).layer_importance(bare)
    assert not issubclass(available()["wanda"], LayerCriterion)


@pytest.mark.parametrize("aware", [True, False])
def test_dai_adds_what_several_readers_lose(evidence, inputs, gradients, aware):
    """Hidden dimensions are read by many linear layers; their order does not foresee reconstruction."""
    other = replace(evidence, weight=draw(30, OUTPUTS, UNITS, COLUMNS))

    def cost(units):
        return sum(moved(each, inputs, gradients, units, general=0, centred=True) for each in (evidence, other))

    assert torch.equal(dai(reconstruction_aware=aware).shared_unit_importance([evidence, other]), greedy(cost))
