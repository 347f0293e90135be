"""A measurement that was stopped goes on, and ends in the same bits."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from other_process import STATISTICS, measure_once
from safetensors.torch import load_file

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, MeasurementError, OutputError
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.statistics.checkpoint import Checkpoint
from gaprune.statistics.measure import measure
from launched import server
from plain_loop import reached
from toys import triplets_file

pytestmark = pytest.mark.usefixtures("two_forwards_a_batch")


@pytest.fixture
def kept(tmp_path):
    """Return a function that measures with a checkpoint in a folder of this test."""

    def run(model, triplets, *, resume=False, every=0.0, identity=None, statistics=STATISTICS, label=None, **options):
        return measure(
            model,
            triplets,
            reached(model),
            statistics=statistics,
            prompts=Prompts(),
            options=MeasurementOptions(batch_size=2, **options),
            checkpoint=Checkpoint(tmp_path / "kept", resume=resume, every=every, identity=identity or {}),
            label=label or "calibration",
        )

    return run


@pytest.fixture
def passes_of(monkeypatch):
    """Return a function that cuts every measurement into so many passes."""

    def cut(count):
        def groups(sizes, _room):
            names = list(sizes)
            return tuple(tuple(names[len(names) * i // count : len(names) * (i + 1) // count]) for i in range(count))

        monkeypatch.setattr("gaprune.statistics.plan._groups", groups)

    return cut


def stop_at(model, forward):
    """Stop the model at so many forwards from now, as Ctrl-C would."""
    calls = []

    def count(*_):
        calls.append(1)
        if len(calls) == forward:
            raise KeyboardInterrupt

    return model.register_forward_hook(count)


def same(statistics, expected):
    assert list(statistics) == list(expected)
    for name, each in expected.items():
        found = statistics[name]
        assert (found.samples, found.triplets, found.tokens) == (each.samples, each.triplets, each.tokens)
        assert found.sums().keys() == each.sums().keys()
        assert all(torch.equal(total, found.sums()[key]) for key, total in each.sums().items())


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("forward", [1, 4, 7, 8, 9, 17])
def test_it_goes_on_where_it_stopped(bert, toy_triplets, measured, kept, passes_of, passes, forward, capsys):
    expected = measured(bert, toy_triplets, statistics=STATISTICS, batch_size=2)
    passes_of(passes)
    whole = []
    counter = bert.register_forward_hook(lambda *_: whole.append(1))
    handle = stop_at(bert, forward)
    stopped = forward <= 8 * passes
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            kept(bert, toy_triplets)
    else:
        kept(bert, toy_triplets)
    handle.remove()
    whole.clear()
    same(kept(bert, toy_triplets, resume=True), expected)
    counter.remove()
    assert len(whole) == (8 * passes - (forward - 1) // 2 * 2 if stopped else 0)
    if forward == 4:
        assert "1 of 4 batches were measured before." in capsys.readouterr().err


@pytest.mark.parametrize("forward", [3, 12])
def test_both_backwards_go_on(bert, toy_triplets, measured, kept, forward):
    """What starts at the loss and what starts at projections are kept apart, and each goes on for itself."""
    both = (*STATISTICS, "output_gram")
    expected = measured(bert, toy_triplets, statistics=both, batch_size=2)
    handle = stop_at(bert, forward)
    with pytest.raises(KeyboardInterrupt):
        kept(bert, toy_triplets, statistics=both)
    handle.remove()
    whole = []
    bert.register_forward_hook(lambda *_: whole.append(1))
    same(kept(bert, toy_triplets, resume=True, statistics=both), expected)
    assert len(whole) == 16 - (forward - 1) // 2 * 2


def test_twice_is_not_measured_twice(bert, toy_triplets, kept):
    first = kept(bert, toy_triplets)
    calls = []
    bert.register_forward_hook(lambda *_: calls.append(1))
    same(kept(bert, toy_triplets, resume=True), first)
    assert not calls


def test_what_is_there_is_not_overwritten_unasked(bert, toy_triplets, kept, tmp_path):
    kept(bert, toy_triplets)
    with pytest.raises(ConfigError) as caught:
        kept(bert, toy_triplets)
    assert caught.value.problem.endswith("holds measurements already.")
    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"identity": {"parent": "another"}}, "parent"),
        ({"seed": 1}, "seed"),
        ({"temperature": 0.1}, "temperature"),
        ({"statistics": ("fisher",)}, "statistics"),
        ({"triplets": 5}, "triplets"),
        ({"negatives": "explicit", "fisher": "batch"}, "fisher, negatives"),
    ],
)
def test_what_changed_is_named_and_measured_again(bert, toy_triplets, kept, measured, change, named, capsys):
    kept(bert, toy_triplets, identity={"parent": "one"})
    capsys.readouterr()
    options = {"identity": {"parent": "one"}, "statistics": STATISTICS} | change
    triplets = toy_triplets[: options.pop("triplets", None)]
    statistics = kept(bert, triplets, resume=True, **options)
    assert f"was made with another {named}: measuring from the start." in capsys.readouterr().err
    del options["identity"]
    same(statistics, measured(bert, triplets, batch_size=2, **options))


def test_another_run_with_the_same_checkpoint_is_refused(bert, toy_triplets, kept, folder_of):
    def another(*_):
        with pytest.raises(OutputError, match="in use by another run"):
            kept(load_model(folder_of("bert"), device="cpu"), toy_triplets, resume=True)
        seen.append(True)

    seen = []
    bert.register_forward_hook(another)
    kept(bert, toy_triplets)
    assert seen


def test_what_a_killed_run_left_half_written_is_deleted(bert, toy_triplets, kept, tmp_path):
    kept(bert, toy_triplets)
    half = tmp_path / "kept" / "calibration" / ".pass-1.safetensors.x.partial"
    half.mkdir()
    (half / "pass-1.safetensors").write_bytes(b"half")
    kept(bert, toy_triplets, resume=True)
    assert not half.exists()


def test_nothing_to_resume_is_said(bert, toy_triplets, kept, capsys):
    for label, is_said in (("calibration", True), ("another", False)):
        kept(bert, toy_triplets, resume=True, label=label)
        assert ("Nothing is kept in" in capsys.readouterr().err) == is_said, "once of a folder, for all its data"


def test_more_memory_does_not_change_what_was_begun(bert, toy_triplets, kept, passes_of, measured):
    passes_of(3)
    handle = stop_at(bert, 12)
    with pytest.raises(KeyboardInterrupt):
        kept(bert, toy_triplets)
    handle.remove()
    passes_of(1)
    calls = []
    bert.register_forward_hook(lambda *_: calls.append(1))
    statistics = kept(bert, toy_triplets, resume=True)
    assert len(calls) == 24 - 10
    same(statistics, measured(bert, toy_triplets, statistics=STATISTICS, batch_size=2))


def test_a_batch_that_is_not_finite_keeps_those_before(bert, toy_triplets, kept):
    def spoil(_module, _args, output):
        if len(calls) == 6:
            output["sentence_embedding"].register_hook(lambda gradient: gradient * torch.nan)

    calls = []
    bert.register_forward_hook(lambda *_: calls.append(1))
    handle = bert[1].register_forward_hook(spoil)
    with pytest.raises(MeasurementError, match=r"gradient is not finite\. In the batch of toy\.jsonl:"):
        kept(bert, toy_triplets)
    handle.remove()
    calls.clear()
    kept(bert, toy_triplets, resume=True)
    assert len(calls) == 2 * (4 - 3)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), PermissionError("not yours")])
def test_a_full_disk_leaves_what_was_whole(bert, toy_triplets, kept, measured, monkeypatch, fault, tmp_path):
    replace, calls = Path.replace, []

    def fail(self, target):
        calls.append(target)
        if len(calls) == 4:  # the plan, and the sums for the third time
            raise fault
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError) as caught:
        kept(bert, toy_triplets)
    assert "cannot be written" in caught.value.problem
    assert str(fault) in caught.value.problem
    assert "--resume" in caught.value.remedy
    assert sorted(path.name for path in (tmp_path / "kept" / "calibration").iterdir()) == [
        "pass-1.safetensors",
        "plan.json",
    ]
    same(kept(bert, toy_triplets, resume=True), measured(bert, toy_triplets, statistics=STATISTICS, batch_size=2))


@pytest.mark.parametrize("name", ["plan.json", "pass-1.safetensors"])
def test_what_cannot_be_read(bert, toy_triplets, kept, tmp_path, name):
    kept(bert, toy_triplets)
    path = tmp_path / "kept" / "calibration" / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError) as caught:
        kept(bert, toy_triplets, resume=True)
    assert caught.value.problem.startswith(f"{path} cannot be read: ")
    assert "Delete the file" in caught.value.remedy


def test_sums_of_another_plan(bert, toy_triplets, kept, tmp_path):
    kept(bert, toy_triplets)
    plan = tmp_path / "kept" / "calibration" / "plan.json"
    content = json.loads(plan.read_text())
    content["shape"]["way"][0] = 1
    plan.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="it belongs to another plan"):
        kept(bert, toy_triplets, resume=True)


def test_kills_at_random_instants(folder_of, toy_triplets, tmp_path):
    """SIGKILL, four times, each resumed: the sums are those of a run that nobody killed."""
    items = [
        Triplet(first.query, second.positive, second.negatives)
        for first, second in zip([*toy_triplets] * 2, [*toy_triplets, *toy_triplets[1:], toy_triplets[0]], strict=True)
    ]
    data = triplets_file(tmp_path / "toy.jsonl", Triplets(items, "toy.jsonl"))
    context, draw = server(), random.Random(0)  # noqa: S311 (no secret)
    options = {"passes": 2, "pause": 0.01, "batch_size": 2}

    def run(out, checkpoint, limit):
        ready = context.Event()
        arguments = (folder_of("bert"), data, tmp_path / out)
        process = context.Process(
            target=measure_once, args=arguments, kwargs={**options, "checkpoint": checkpoint, "ready": ready}
        )
        process.start()
        assert ready.wait(60)
        start = time.monotonic()
        process.join(limit)
        took = time.monotonic() - start
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        return process.exitcode, took

    code, whole = run("whole", tmp_path / "alone", 60)
    assert code == 0
    expected = load_file(tmp_path / "whole-0")
    kills = 0
    while kills < 4:
        code, _ = run("killed", tmp_path / "kept", draw.uniform(0, whole / 3))
        kills += code == -signal.SIGKILL
        if code == 0 or kills == 4:
            code, _ = run("killed", tmp_path / "kept", 60)
            assert code == 0
            found = load_file(tmp_path / "killed-0")
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
            shutil.rmtree(tmp_path / "kept")
