"""Sums do not depend on how a measurement is cut to fit the memory."""

from __future__ import annotations

import gc
import re
import weakref

import pytest
import torch
from pydantic import ByteSize, TypeAdapter

from families import FAMILIES
from gaprune.config.measurement import MeasurementOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks
from gaprune.models.prompts import Prompts
from gaprune.statistics import forward, plan, runner
from gaprune.statistics.batches import Batch
from gaprune.statistics.measurement import Measurement
from gaprune.util.memory import show_bytes
from plain_loop import close, reached

STATISTICS = ("fisher", "gradient", "gram", "input_square")
PROJECTED = ("gram", "output_gram")


@pytest.fixture
def planned():
    """Return a function that plans to measure everything of a model."""

    def run(model, triplets, *, statistics=STATISTICS, linear_layers=None, **options):
        chosen = reached(model) if linear_layers is None else linear_layers
        measurement = Measurement.of(
            model, triplets, chosen, frozenset(statistics), Prompts(), MeasurementOptions(**options), "calibration"
        )
        return plan.plan_for(measurement)

    return run


@pytest.fixture
def tight(monkeypatch):
    """Fixed costs as small as the tiny models."""
    monkeypatch.setattr(plan, "_WORKING", 1000)


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize(
    ("family", "negatives", "wanted"),
    [
        *((family, "in-batch", STATISTICS) for family in FAMILIES),
        *((family, "explicit", STATISTICS) for family in ("bert", "modernbert", "gemma")),
        *((family, "in-batch", PROJECTED) for family in ("distilbert", "modernbert", "qwen3")),
    ],
    indirect=["family"],
)
def test_little_memory_changes_no_sum(model, toy_triplets, measured, planned, negatives, wanted):
    """The least budget that will do makes several passes, few triplets at once, and blocks that run twice.

    Blocks run once only if that needs no more than the hundredth by which the budget is more than the least.
    """
    options = {"negatives": negatives, "batch_size": 4}
    expected = measured(model, toy_triplets, statistics=wanted, **options)
    with pytest.raises(ConfigError) as caught:
        planned(model, toy_triplets, statistics=wanted, memory_budget="1kB", **options)
    said = caught.value.problem.partition("at least ")[2].partition(" are")[0]
    least = TypeAdapter(ByteSize).validate_python(said) * 1.01
    little = planned(model, toy_triplets, statistics=wanted, memory_budget=str(int(least)), **options)
    again = [each.activation_bytes for each in plan._ways(little.measurement, int(least)) if each.rerun]
    assert little.way.rerun or little.way.activation_bytes < 1.01 * min(again)
    assert len(little.passes) > 3
    assert little.needed_bytes <= least
    statistics = measured(model, toy_triplets, statistics=wanted, memory_budget=str(int(least)), **options)
    assert list(statistics) == list(expected)
    for name, whole in expected.items():
        found = statistics[name]
        assert (found.samples, found.triplets, found.tokens) == (whole.samples, whole.triplets, whole.tokens)
        for statistic in wanted:
            close(getattr(found, statistic), getattr(whole, statistic), 2e-4)


@pytest.mark.usefixtures("tight")
def test_passes_alone_change_no_bit(model, toy_triplets, measured, planned, monkeypatch):
    """The sums of some matrices do not depend on which others are measured beside them."""
    expected = measured(model, toy_triplets, statistics=STATISTICS)
    whole = planned(model, toy_triplets)
    monkeypatch.setattr(plan, "_ways", lambda *_args, **_kwargs: [plan.Way(whole.way.at_once, False, 0, 3)])
    budget = str(whole.sums_bytes // 3 + 1000)
    assert len(planned(model, toy_triplets, memory_budget=budget).passes) > 2
    statistics = measured(model, toy_triplets, statistics=STATISTICS, memory_budget=budget)
    for name, each in expected.items():
        assert all(torch.equal(total, statistics[name].sums()[key]) for key, total in each.sums().items())


@pytest.mark.usefixtures("tight")
def test_some_tokens_at_once(model, toy_triplets, measured, monkeypatch):
    """A batch with more is embedded first and measured part by part, its last part without being embedded twice."""
    parts = []
    by_parts = runner._by_parts
    monkeypatch.setattr(runner, "_by_parts", lambda *args: parts.append(len(args[3])) or by_parts(*args))
    expected = measured(model, toy_triplets, statistics=STATISTICS, batch_size=16)
    assert not parts
    monkeypatch.setattr(plan, "_ways", lambda *_args, **_kwargs: [plan.Way(40, False, 0, 3)])
    statistics = measured(model, toy_triplets, statistics=STATISTICS, batch_size=16)
    assert min(parts) > 1
    for name, each in expected.items():
        assert statistics[name].tokens == each.tokens
        for statistic in STATISTICS:
            close(getattr(statistics[name], statistic), getattr(each, statistic), 2e-4)


class TestParts:
    """Batches of which only so many tokens are kept at a time."""

    batch = Batch(tuple("abcd"), (1, 2, 3, 10), ((4,), (2, 3), (5,), (20, 2)))

    @pytest.mark.parametrize(
        ("tokens", "expected"),
        [(52, ["abcd"]), (51, ["a", "bcd"]), (19, ["a", "bc", "d"]), (11, ["a", "b", "c", "d"]), (1, list("abcd"))],
    )
    def test_neighbours_share_a_part_and_the_last_is_filled_first(self, tokens, expected):
        parts = self.batch.split(tokens)
        assert ["".join(part.triplets) for part in parts] == expected
        assert sum(part.tokens for part in parts) == self.batch.tokens == 52
        assert [query for part in parts for query in part.queries] == [1, 2, 3, 10]

    def test_the_longest_triplet(self):
        assert self.batch.longest == 32


@pytest.mark.usefixtures("tight")
def test_only_long_batches_are_embedded_twice(bert, toy_triplets, planned):
    """A budget that holds most batches whole splits the others alone."""
    plenty = planned(bert, toy_triplets, batch_size=2)
    enough = planned(bert, toy_triplets, batch_size=2, memory_budget=str(int(plenty.needed_bytes * 0.8)))
    assert plenty.recomputed == enough.recomputed == 0
    less = enough.needed_bytes - enough.way.activation_bytes // 10
    some = planned(bert, toy_triplets, batch_size=2, memory_budget=str(less))
    assert some.way.at_once < max(batch.tokens for batch in some.measurement.batches)
    assert 0 < some.recomputed < 0.5
    assert f"{some.recomputed:.0%} of the forward pass is computed twice" in str(some)


def test_a_batch_of_many_tokens_runs_in_several_forwards(model, toy_triplets, measured, monkeypatch):
    expected = measured(model, toy_triplets, statistics=STATISTICS)
    monkeypatch.setattr(forward, "_TOKENS", {"cpu": (24, 1)})
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    statistics = measured(model, toy_triplets, statistics=STATISTICS)
    assert len(calls) > 6
    for name, each in expected.items():
        for statistic in STATISTICS:
            close(getattr(statistics[name], statistic), getattr(each, statistic), 2e-4)


def test_the_plan_says_what_it_will_do(bert, toy_triplets, planned):
    said = str(planned(bert, toy_triplets, statistics={"fisher"}, memory_budget="1GB"))
    assert said.startswith("Measuring calibration: 7 triplets (")
    assert "1 pass over 12 linear layers. It takes up to" in said
    assert "of 1 GB" in said


def test_the_time_is_said_once_and_after_a_batch_was_measured(bert, toy_triplets, measured, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_MEASURED_LONG_ENOUGH", 0.0)
    measured(bert, toy_triplets, statistics={"fisher"}, batch_size=2)
    said = re.findall(r"Measuring calibration: about \S+ \S+ left\.", capsys.readouterr().err)
    assert len(said) == 1
    monkeypatch.undo()
    measured(bert, toy_triplets, statistics={"fisher"}, batch_size=2)
    assert " left" not in capsys.readouterr().err


def test_planning_keeps_no_activation(bert, toy_triplets, planned):
    outputs = []
    handle = blocks(bert)[0].register_forward_hook(lambda _module, _args, output: outputs.append(weakref.ref(output)))
    with pytest.raises(ConfigError):  # after a text was run to see what it takes
        planned(bert, toy_triplets, memory_budget="1kB")
    handle.remove()
    gc.collect()
    assert outputs
    assert all(output() is None for output in outputs)


def test_later_passes_start_at_their_first_block(bert, toy_triplets, measured):
    """Nothing below the first measured block is differentiated."""
    seen = []
    bert.transformers_model.encoder.layer[0].output.dense.register_forward_hook(
        lambda _module, _args, output: seen.append(output.requires_grad)
    )
    measured(bert, toy_triplets, linear_layers=[matrix for matrix in reached(bert) if matrix.layer == 1])
    assert set(seen) == {False}


@pytest.mark.parametrize("named", [False, True])
def test_sums_on_disk_are_deleted_with_their_object(bert, toy_triplets, measured, monkeypatch, tmp_path, named):
    """They lie beside the path that is named, which need not exist, or else where temporary files do."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(plan, "_groups", lambda sizes, _room: tuple((name,) for name in sizes))
    options = {"cache": tmp_path / "out" / "pruned"} if named else {}
    statistics = measured(bert, toy_triplets, statistics={"gram"}, **options)
    [folder] = {path.parent for path in tmp_path.rglob("*.safetensors")}
    assert folder.parent == (tmp_path if named else tmp_path / "temporary")
    assert len(list(folder.iterdir())) == 12
    assert all(each.gram.isfinite().all() for each in statistics.values())
    del statistics
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


@pytest.mark.parametrize(
    ("text", "count"), [("8GB", 8 * 10**9), ("1.5 gib", 3 * 2**29), ("512MiB", 2**29), ("100", 100), ("2kB", 2000)]
)
def test_amounts(text, count):
    assert Recipe.build({"memory_budget": text}).memory_budget == count


@pytest.mark.parametrize("text", ["much", "", "0GB", "-1GB", "8 GB of memory"])
def test_what_is_no_amount(text):
    with pytest.raises(ConfigError, match=r"^memory_budget: .* "):
        Recipe.build({"memory_budget": text})


def test_bytes_in_words():
    assert [show_bytes(count) for count in (999, 1000, 1_234_567, 16e9)] == ["999 B", "1 kB", "1.23 MB", "16 GB"]
