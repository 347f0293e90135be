"""Kills at random instants: every run resumed, the scores those of a run that nobody killed.

    python benchmarks/resume.py --kills 20

Each round is the whole command, ``gaprune prune`` on all-MiniLM-L6-v2, killed (SIGKILL) at an instant drawn from the
time that the uninterrupted run took from the start of measuring; a run that ends before its instant is compared, and
the next round starts anew. How many batches were kept at each kill is noted.
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
from safetensors import safe_open
from safetensors.torch import load_file

from gaprune.data.samples import sample_triplets
from gaprune.models.demo import demo_model
from testbed import RESULTS, Lines, machine


def command(folder: Path, triplets: int) -> list[str]:
    """Return the command that keeps its measurements and its scores in ``folder``."""
    words = [sys.executable, "-m", "gaprune.cli", "prune", str(demo_model()), "--resume", "--no-reconstruct"]
    words += ["--domain", str(sample_triplets("finance")), "--general", str(sample_triplets("general"))]
    words += ["--triplets", str(triplets), "--set", "batch_size=2", "--criterion", "dai-paper"]
    words += ["--checkpoint", str(folder / "kept"), "--set", "checkpoint_every=0"]
    return [*words, "--set", f"scores={folder / 'scores.safetensors'}"]


def run(folder: Path, triplets: int, limit: float | None) -> float | None:
    """Run the command, killed ``limit`` seconds after it began to measure; return its seconds if it ended before."""
    process = subprocess.Popen(command(folder, triplets), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603 (our own command)
    if process.stderr is None:
        raise AssertionError("stderr is a pipe")
    next((line for line in process.stderr if line.startswith("Measuring")), None)  # none where scores are there
    start = time.perf_counter()
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
    if code:
        raise SystemExit(f"A resumed run ended with exit code {code}: {process.stderr.read()}")
    return time.perf_counter() - start


def kept(folder: Path) -> int:
    """Return how many batches are in the sums that are kept."""
    found = 0
    for path in (folder / "kept").rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found += int(file.metadata()["done"])
    return found


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
        took = run(whole, arguments.triplets, None)
        expected = load_file(whole / "scores.safetensors")
        kept_whole, batches = kept(whole), []
        kills, compared = 0, 0
        while kills < arguments.kills:
            ended = run(killed, arguments.triplets, draw.uniform(0, took)) is not None
            if not ended:
                kills += 1
                batches.append(kept(killed))
            if ended or kills == arguments.kills:
                run(killed, arguments.triplets, None)
                found = load_file(killed / "scores.safetensors")
                if any(not torch.equal(found[name], values) for name, values in expected.items()):
                    raise SystemExit(f"After {kills} kills the scores differ.")
                compared += 1
                shutil.rmtree(killed)
            sys.stderr.write(f"{kills} kills, {batches[-1:]} of {kept_whole} batches kept, {compared} equal\n")
    cell = {"benchmark": "resume", "kills": kills, "equal": compared, "seconds_uninterrupted": took}
    cell |= {"batches_kept": batches, "batches": kept_whole}
    Lines(arguments.out).add(cell | {"machine": machine()})
    sys.stdout.write(json.dumps(cell) + "\n")


if __name__ == "__main__":
    main()
