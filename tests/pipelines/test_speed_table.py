"""Speeds of shapes: a few are timed, all others follow; what a machine says of a shape itself corrects the table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gaprune.evaluation.cost import latency
from gaprune.evaluation.cost.latency import Speed, Timing
from gaprune.pipelines.speed_table import SpeedTable
from gaprune.pruning.costs import Shape


class Machine:
    """Takes a time that does not depend on the layers, and one for each layer that grows with its neurons."""

    def __init__(self, parent, surprise=1.0):
        self.whole, self.surprise, self.timed = Shape.of(parent), surprise, []

    def time(self, shape, rest):
        return rest + shape.layers * (1 + shape.width / 16) * (1 if shape.layers > 1 else self.surprise)

    def __call__(self, model, rounds):
        shape = Shape.of(model)
        self.timed.append((shape, rounds))
        return self.speed(shape)

    def speed(self, shape):
        latency, throughput = (self.time(self.whole, rest) / self.time(shape, rest) for rest in (5, 1))
        return Speed(latency=latency, throughput=throughput, milliseconds=(1, 1), texts_per_second=(1, 1))


def test_a_few_timings_say_how_fast_every_shape_is(bert):
    machine = Machine(bert)
    table = SpeedTable(bert, machine, fewest=8)
    whole = machine.whole
    assert table.speedup(whole) == pytest.approx(1)
    for layers, width in ((2, 40), (1, 48), (1, 16), (1, 8)):
        shape = whole.changed(layers=layers, width=width)
        assert table.speedup(shape) == pytest.approx(machine.speed(shape).speedup)
    assert len(machine.timed) == 3
    assert table.confirms(whole.changed(layers=1, width=40))
    assert len(machine.timed) == 4


def test_a_shape_that_takes_another_time_corrects_the_table(bert):
    machine = Machine(bert)
    table = SpeedTable(bert, machine, fewest=8)
    shape = machine.whole.changed(layers=1, width=16)
    table.speedup(shape)
    machine.surprise = 1.5
    expected = machine.speed(shape).speedup
    assert not table.confirms(shape)
    assert table.speedup(shape) == pytest.approx(expected)
    assert table.confirms(shape)
    machine.surprise = 3.0
    assert not table.learn(shape, machine.speed(shape))
    assert table.speedup(shape) == pytest.approx(machine.speed(shape).speedup)
    assert table.confirms(shape), "a finished model that was timed is believed"


def test_timings_that_scatter_are_repeated_and_correct_nothing(bert, monkeypatch):
    """The first rounds are disturbed; all later ones have a ratio of 2."""

    def timed(ratios):
        calls = iter(ratios)

        def both(_models, workload):
            found = [next(calls) for _ in range(workload.rounds)]
            return [(Timing(1, 1, 1, tuple(seconds)),) for seconds in ([1.0] * len(found), found)]

        monkeypatch.setattr(latency, "time_models", both)
        monkeypatch.setattr(
            latency, "_workload", lambda _name, _models, rounds, _texts: SimpleNamespace(rounds=rounds)
        )
        speed = latency.measure_speed(None, None, rounds=4)
        return speed, len(list(calls))

    quiet, left = timed([2.0] * 100)
    assert (quiet.speedup, quiet.error, left) == (pytest.approx(2.0), 0.0, 92)
    mended, left = timed([1.0, 2.0, 4.0, 2.0] * 2 + [2.0] * 92)
    assert mended.speedup == pytest.approx(2.0)
    assert left < 92
    busy, left = timed([1.0, 2.0, 4.0, 6.0] * 25)
    assert (left, busy.error > 0.1) == (68, True)
    table = SpeedTable(bert, Machine(bert), fewest=8)
    shape = Shape.of(bert).changed(layers=1)
    said = table.speedup(shape)
    assert table.confirms(shape)
    assert table.learn(shape, busy.model_copy(update={"latency": 1.2 * said, "throughput": 1.2 * said}))
    assert table.speedup(shape) == said


def test_a_machine_that_scatters_ends_no_search(bert):
    machine = Machine(bert)
    table = SpeedTable(bert, machine, fewest=8)
    shape = machine.whole.changed(layers=1)
    tries = 1
    while not table.confirms(shape):
        tries += 1
        machine.surprise *= 1.3
    assert 1 <= tries <= 4


@pytest.mark.parametrize("width", [16, 48])
def test_layers_take_time_even_where_timings_say_otherwise(bert, width):
    """Noise: the model with fewer layers seems slower than the whole one."""
    machine = Machine(bert, surprise=4.0)
    table = SpeedTable(bert, machine, fewest=8)
    one, two = (table.speedup(machine.whole.changed(layers=layers, width=width)) for layers in (1, 2))
    assert 0 < two <= one
