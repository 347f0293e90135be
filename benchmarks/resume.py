"""Kills at random instants: every run resumed, the scores those of a run that nobody killed.

    python benchmarks/resume.py --kills 20

Each round is the whole command, ``gaprune prune`` on all-MiniLM-L6-v2, killed (SIGKILL) at an instant drawn from the
time that the uninterrupted run took; a run that ends before its instant is compared, and the next round starts anew.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from gaprune.data import sample_triplets
from gaprune.demo import demo_model
from testbed import RESULTS, Lines, machine


def command(folder: Path, triplets: int) -> list[str]:
    """Return the command that keeps its measurements and its scores in ``folder``."""
    words = [sys.executable, "-m", "gaprune.cli", "prune", str(demo_model()), "--quiet", "--resume", "--no-repair"]
    words += ["--domain", str(sample_triplets("finance")), "--general", str(sample_triplets("general"))]
    words += ["--triplets", str(triplets), "--batch-size", "2", "--criterion", "dai-paper"]
    words += ["--checkpoint", str(folder / "kept"), "--checkpoint-every", "0"]
    return [*words, "--scores", str(folder / "scores.safetensors")]


def run(folder: Path, triplets: int, limit: float | None) -> bool:
    """Run the command, killed after ``limit`` seconds; return whether it ended before."""
    process = subprocess.Popen(command(folder, triplets))  # noqa: S603 (our own command)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    if code:
        raise SystemExit(f"A resumed run ended with exit code {code}.")
    return True


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--triplets", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "resume.jsonl")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        start = time.perf_counter()
        run(whole, arguments.triplets, None)
        took = time.perf_counter() - start
        expected = load_file(whole / "scores.safetensors")
        kills, compared = 0, 0
        while kills < arguments.kills:
            last = run(killed, arguments.triplets, draw.uniform(0, took))
            kills += not last
            if last or kills == arguments.kills:
                run(killed, arguments.triplets, None)
                found = load_file(killed / "scores.safetensors")
                if any(not torch.equal(found[name], values) for name, values in expected.items()):
                    raise SystemExit(f"After {kills} kills the scores differ.")
                compared += 1
                shutil.rmtree(killed)
            sys.stderr.write(f"{kills} kills, {compared} resumed runs equal to the uninterrupted one\n")
    cell = {"benchmark": "resume", "kills": kills, "equal": compared, "seconds_uninterrupted": took}
    Lines(arguments.out).add(cell | {"machine": machine()})
    sys.stdout.write(json.dumps(cell) + "\n")


if __name__ == "__main__":
    main()
