"""One look at a GPU: the same results as on the CPU, then time and memory of large random models.

    python benchmarks/gpu.py [--device cuda] [--sizes 0.6B 4B] [--triplets 16] [--scratch DIR]

First, tiny models of several families are pruned in fp32 on the CPU and on the device, and compared. Then random
models with the dimensions of Qwen3-Embedding-0.6B and 4B, in bf16, are pruned twice: half of the MLP's weights become
zero, and half of its neurons are removed, both with reconstruction. A line of JSON for each goes to stdout as soon as
it is there, and all to benchmarks/results/gpu.jsonl. Meant for a card of the class of an H100, on which it should take
less than eight minutes; ``--minutes`` leaves out what no longer fits. It has never been run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

import gaprune
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.models.load import load_model
from scale import SIZES, Size, build, clocked, peak
from testbed import RESULTS, ROOT, Lines, machine

sys.path.insert(0, str(ROOT / "tests"))

from families import FAMILIES

EQUAL = {
    "weights": ("bert", {"sparsity": 0.5}),
    "weights, decoder": ("gemma", {"sparsity": 0.5}),
    "neurons and heads": ("qwen3", {"width": 0.5, "heads": 0.5, "round_to": 8}),
    "layers": ("modernbert", {"depth": 1}),
}
"""Families and amounts that are compared on both devices."""
TOLERANCE = 1e-2
"""Largest difference of a weight, relative to the largest weight of its tensor; sums are made in another order."""
LARGE: dict[str, dict[str, Any]] = {
    "half of the MLP's weights": {"sparsity": 0.5, "targets": "mlp"},
    "half of the neurons": {"width": 0.5},
}
TINY = Size(hidden=64, layers=2, heads=8, intermediate=128, vocabulary=300)


def main() -> int:
    """Compare, then time; return 1 if a comparison fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="*", choices=("tiny", "0.6B", "4B"), default=["0.6B", "4B"])
    parser.add_argument("--equal", nargs="*", choices=EQUAL, default=list(EQUAL), help="what is compared")
    parser.add_argument("--triplets", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=8, help="nothing is begun after so many")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the models are made")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.jsonl")
    args = parser.parse_args()
    end, failed, lines = time.monotonic() + 60 * args.minutes, False, Lines(args.out)
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        for line in (*compared(args, Path(folder)), *timed(args, Path(folder), end)):
            failed |= line.get("same") is False
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            lines.add(line | {"card": card(args.device), "machine": machine()})
    return int(failed)


def compared(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield how far the results on the device are from those on the CPU."""
    for name in args.equal:
        family, options = EQUAL[name]
        parent = FAMILIES[family](folder / name)
        own = {**options, "precision": "float32", "batch_size": 8}
        cpu, other = (tensors(pruned(parent, "float32", where, 16, own)) for where in ("cpu", args.device))
        farthest = max(distance(cpu[each], other[each]) for each in cpu) if cpu.keys() == other.keys() else None
        zeros = min(float(((cpu[each] == 0) == (other[each] == 0)).float().mean()) for each in cpu)
        same = farthest is not None and farthest < TOLERANCE and zeros > 0.99
        yield {"compared": name, "family": family, "difference": farthest, "same zeros": zeros, "same": same}


def timed(args: argparse.Namespace, folder: Path, end: float) -> Iterator[dict[str, Any]]:
    """Yield time by stage and peak memory of the large models."""
    for name in args.sizes:
        if time.monotonic() > end:
            yield {"size": name, "skipped": f"{args.minutes:g} minutes are over"}
            continue
        model = folder / name
        with clock(args.device) as building:
            parameters = build(TINY if name == "tiny" else SIZES[name], model)
        for what, options in LARGE.items():
            if time.monotonic() > end:
                yield {"size": name, "pruned": what, "skipped": f"{args.minutes:g} minutes are over"}
                continue
            with clocked() as stages, clock(args.device) as whole:
                pruned(model, "bfloat16", args.device, args.triplets, options)
            yield {
                "size": name, "parameters": parameters, "pruned": what, "triplets": args.triplets, **whole,
                "written": building["seconds"], "stages": {each: found["seconds"] for each, found in stages.items()},
            }  # fmt: skip


def pruned(parent: Path, dtype: str, device: str, count: int, options: dict[str, Any]) -> SentenceTransformer:
    """Return the parent, pruned on a device by ``count`` triplets of finance and as many general ones."""
    finance, general = (read_triplets(sample_triplets(kind)).take(count, seed=0) for kind in ("finance", "general"))
    model = load_model(parent, device=device, dtype=dtype, max_length=32)
    return gaprune.prune(model, domain=finance, general=general, recipe=options).model


def tensors(model: SentenceTransformer) -> dict[str, Tensor]:
    """Return the weights on the CPU in fp32."""
    return {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}


def distance(first: Tensor, second: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    if first.shape != second.shape:
        return float("inf")
    return float((first - second).abs().max() / first.abs().max().clamp_min(1e-12))


@contextmanager
def clock(device: str) -> Iterator[dict[str, Any]]:
    """Measure seconds and the peak memory of a device inside the block, in GiB; without CUDA that of the process."""
    found: dict[str, Any] = {}
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    yield found
    if on_cuda:
        torch.cuda.synchronize(device)
    found["seconds"] = time.perf_counter() - start
    found["peak GiB"] = (torch.cuda.max_memory_allocated(device) if on_cuda else peak()) / (1 << 30)


def card(device: str) -> str:
    """Return the name of the device."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


if __name__ == "__main__":
    sys.exit(main())
