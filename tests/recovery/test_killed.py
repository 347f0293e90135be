"""SIGKILL at random instants, each time resumed: the end is that of a run that nobody killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

from recovering import recover_once
from safetensors.torch import load_file

import gaprune
from gaprune.export.provenance import Provenance
from gaprune.models.load import load_model
from launched import server
from toys import triplets_file


def test_kills_at_random_instants(folder_of, many, tmp_path):
    model = gaprune.prune(load_model(folder_of("bert"), device="cpu"), criterion="magnitude", targets="all").model
    folder = tmp_path / "pruned"
    model.save_pretrained(str(folder), create_model_card=False)
    options = {
        "domain": triplets_file(tmp_path / "many.jsonl", many), "parent": folder_of("bert"), "distil": True,
        "teacher_cache": tmp_path / "cache", "steps": 40, "batch_size": 6, "evaluate_every": 3, "device": "cpu",
    }  # fmt: skip
    context, draw = server(), random.Random(0)  # noqa: S311 (no secret)

    out, points = tmp_path / "out", tmp_path / "out.checkpoints"

    def newest():
        return max((int(path.name.partition("-")[2]) for path in points.glob("triplets/checkpoint-*")), default=0)

    def run(out, limit, *, beyond=None, **more):
        """Run until ``limit`` seconds after the start, or after a checkpoint newer than the step ``beyond``."""
        ready = context.Event()
        process = context.Process(target=recover_once, args=(folder, out, options | more, ready))
        process.start()
        assert ready.wait(120)
        start = time.monotonic()
        while beyond is not None and newest() <= beyond and process.exitcode is None:
            process.join(0.01)
        process.join(limit)
        took = time.monotonic() - start
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        return process.exitcode, took

    code, whole = run(tmp_path / "whole", 300)
    assert code == 0
    kills, most = 0, 0
    while kills < 4:
        late = kills % 2  # early ones may come before the first step, late ones come in the midst of the steps
        wait = draw.uniform(0, 0.1) * whole if late else draw.uniform(0.1, 0.6) * whole
        code, _ = run(out, wait, beyond=newest() if late else None, resume=points.exists())
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        most = max(most, newest())
        if out.exists():  # it came to its end before its time: once more from the start
            out.rename(tmp_path / f"early-{len(list(tmp_path.iterdir()))}")
            shutil.rmtree(points, ignore_errors=True)
    assert most > 0
    code, _ = run(out, 300, resume=points.exists())
    assert code == 0
    expected = load_file(tmp_path / "whole" / "model.safetensors")
    for end in (out, *tmp_path.glob("early-*")):
        found = load_file(end / "model.safetensors")
        assert all((found[name] == expected[name]).all() for name in expected)
        looks = [Provenance.read(each).recoveries[0].training.curve for each in (tmp_path / "whole", end)]
        assert looks[0] == looks[1]
    assert not points.exists()
