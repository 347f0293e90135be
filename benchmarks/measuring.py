"""What measuring costs: against a plain forward and backward, and against the procedure of the paper's release.

    python benchmarks/measuring.py ratio --model minilm
    python benchmarks/measuring.py ratio --model qwen3
    python benchmarks/measuring.py release
    python benchmarks/measuring.py compile --model minilm
    python benchmarks/measuring.py attention

``ratio`` alternates the whole pass over statistics (Fisher and mean gradient of every linear weight) with a
plain forward and backward (weights requiring gradients) over the same batches, texts and padding.

``release`` re-enacts the three scripts of the paper's release (two Fisher passes and one alignment pass, each a
process of its own; texts padded to 512 tokens, batches of 4, gradients cloned to the host) and ours, one process that
does both kinds of data in batches of 4 as well, within a small memory budget. Time and peak resident memory are of
whole processes, imports and loading included.

``compile`` alternates a plain forward and backward without weight gradients, which is all that ``torch.compile`` could
make faster, with the same through compiled blocks (dynamic shapes).

``attention`` alternates PyTorch's attention of bfloat16 tensors, forward and backward, with the same in float32 as
gaprune.models.attention computes it: 32 texts of 128 tokens, 12 heads of 32 dimensions, a mask.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.models.attention import differentiable_attention
from gaprune.models.blocks import blocks
from gaprune.models.demo import demo_model
from gaprune.models.linear_layers import LinearLayer, linear_layers, select
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.statistics.batches import batches_of
from gaprune.statistics.forward import Embedder
from gaprune.statistics.gradients import frozen, gradients_from
from gaprune.statistics.hooks import HookContext
from gaprune.statistics.losses import info_nce
from gaprune.statistics.measure import measure
from gaprune.statistics.measurement import Measurement
from gaprune.util.progress import quiet
from testbed import RESULTS, Lines, machine, testbed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DOMAIN = "finance"
QUANTITIES = ("fisher", "gradient")
PADDED, BATCH = 512, 4
"""Tokens that the release pads every text to, and triplets of its batches."""

BUDGET = "370MB"
"""What ours may take beside the model and the libraries there: the activations of about two triplets at a time."""


def calibration(kind: str, count: int) -> Triplets:
    """Return triplets of the test bed."""
    return read_triplets(testbed() / "calibration" / f"{kind}.jsonl").take(count, seed=0)


def loaded(name: str) -> SentenceTransformer:
    """Return all-MiniLM-L6-v2, or a random model of the Qwen3 architecture with 50 million parameters."""
    return load_model(demo_model(), device="cpu") if name == "minilm" else _qwen3()


def _qwen3() -> SentenceTransformer:
    """Ten layers of 512, grouped-query attention, the vocabulary of all-MiniLM-L6-v2."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    tokenizer = transformers.AutoTokenizer.from_pretrained(demo_model(), padding_side="left")
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1792,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        transformers.Qwen3Model(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=256)
    return SentenceTransformer(modules=[transformer, Pooling(512, pooling_mode="lasttoken")], device="cpu")


def passes(model: SentenceTransformer, triplets: Triplets, *, all_weights: bool) -> None:
    """Run every batch forward and backward, to all weights or through the blocks alone."""
    chosen, options = select(linear_layers(model), ["all"]), MeasurementOptions()
    measurement = Measurement.of(model, triplets, chosen, frozenset({"fisher"}), Prompts(), options, "benchmark")
    embedder = Embedder(model, Prompts(), HookContext())
    with ExitStack() as stack:
        if all_weights:
            model.eval().requires_grad_(requires_grad=True)
        else:
            stack.enter_context(frozen(model, gradients=True))
            stack.enter_context(gradients_from(model, chosen))
        for batch in measurement.batches:
            measurement.loss(*embedder.both(batch, hooked=True), batch).backward()
    model.zero_grad()


def ratio(name: str, count: int, repeats: int) -> dict[str, object]:
    """Return the times of the pass over statistics and a plain one, taken in turn, and the median of their ratios."""
    model, triplets = loaded(name), calibration(DOMAIN, count)
    chosen = select(linear_layers(model), ["all"])

    def ours() -> None:
        measure(model, triplets, chosen, statistics=QUANTITIES, prompts=Prompts(), options=MeasurementOptions())

    batches = batches_of(model, triplets, Prompts(), MeasurementOptions())
    return {
        "benchmark": "ratio",
        "model": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "measured": sum(matrix.module.weight.numel() for matrix in chosen),
        "triplets": count,
        "tokens": sum(batch.tokens for batch in batches),
        **in_turn({"plain": lambda: passes(model, triplets, all_weights=True), "statistics": ours}, repeats),
    }


def compiled(name: str, count: int, repeats: int) -> dict[str, object]:
    """Return the times of passes through the blocks as they are and compiled, taken in turn."""
    model, triplets = loaded(name), calibration(DOMAIN, count)
    faster = copy.deepcopy(model)
    for block in blocks(faster):
        block.compile(dynamic=True)
    warm = _timed(lambda: passes(faster, triplets, all_weights=False))
    sides = {
        "eager": lambda: passes(model, triplets, all_weights=False),
        "compiled": lambda: passes(faster, triplets, all_weights=False),
    }
    return {
        "benchmark": "compile", "model": name, "triplets": count, "first_pass": warm, **in_turn(sides, repeats)
    }  # fmt: skip


def attention(repeats: int) -> dict[str, object]:
    """Return the times of attention in bfloat16, forward and backward, as it is and in float32, taken in turn."""
    shape, module = (32, 12, 128, 32), torch.nn.Module()
    states = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    mask = torch.zeros(32, 1, 128, 128, dtype=torch.bfloat16)

    def native() -> None:
        for _ in range(5):
            ALL_ATTENTION_FUNCTIONS["sdpa"](module, *states, mask)[0].sum().backward()

    def in_float32() -> None:
        with differentiable_attention(torch.device("cpu")):
            native()

    return {"benchmark": "attention", "shape": shape, **in_turn({"bfloat16": native, "float32": in_float32}, repeats)}


def in_turn(sides: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, object]:
    """Return the times of two sides, run in turn after a run of each, and the second over the first."""
    for run in sides.values():
        run()
    clocks: dict[str, dict[str, list[float]]] = {each: {side: [] for side in sides} for each in ("processor", "wall")}
    for _ in range(repeats):
        for side, run in sides.items():
            for clock, taken in _timed(run).items():
                clocks[clock][side].append(taken)
    ratios = {
        clock: [mine / its for its, mine in zip(*times.values(), strict=True)] for clock, times in clocks.items()
    }
    return {
        "seconds": clocks,
        "ratio": {clock: median(each) for clock, each in ratios.items()},
        "ratios": ratios,
    }


def _timed(run: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of the processor, which other programs change little, and those of the clock."""
    processor, wall = time.process_time(), time.perf_counter()
    run()
    return {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall}


def release(count: int, lines: Lines) -> dict[str, object]:
    """Return time and peak memory of the three scripts and of ours, each process timed from outside.

    Parts that ``lines`` hold already, of the same machine and versions, are not run again.
    """
    scripts = [f"fisher-{DOMAIN}", "fisher-general", "alignment"]
    cells: dict[str, dict[str, float]] = {}
    for name in ["ours", *scripts]:
        key = {"benchmark": "release part", "part": name, "triplets": count, "machine": machine()}
        if name == "ours":
            key["memory_budget"] = BUDGET
        found = next((cell for cell in lines if cell.items() >= key.items()), None)
        if found is None:
            found = key | _in_process(name, count)
            lines.add(found)
        cells[name] = {measure: found[measure] for measure in ("processor", "wall", "peak_bytes")}
    peak = max(cells[script]["peak_bytes"] for script in scripts)
    return {
        "benchmark": "release",
        "model": "minilm",
        "triplets": [count, count],
        "parts": cells,
        "times_faster": {
            clock: sum(cells[script][clock] for script in scripts) / cells["ours"][clock]
            for clock in ("processor", "wall")
        },
        "peak_memory_ratio": cells["ours"]["peak_bytes"] / peak,
    }


def _in_process(part: str, count: int) -> dict[str, float]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "part", "--part", part, "--triplets", str(count)]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 (this very file)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall": time.perf_counter() - start,
        "peak_bytes": json.loads(done.stdout.splitlines()[-1]),
    }


def part(name: str, count: int) -> None:
    """Do one process's work, and print its peak resident memory in bytes."""
    model = load_model(demo_model(), device="cpu")
    chosen = select(linear_layers(model), ["all"])
    if name == "ours":
        for kind in (DOMAIN, "general"):
            measure(
                model,
                calibration(kind, count),
                chosen,
                statistics=QUANTITIES,
                prompts=resolve_prompts(model),
                options=MeasurementOptions(batch_size=BATCH, memory_budget=BUDGET),
            )
    elif name == "alignment":
        _alignment(model, chosen, [calibration(kind, count) for kind in (DOMAIN, "general")])
    else:
        _batch_fisher(model, chosen, calibration(name.removeprefix("fisher-"), count))
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


def _backward(model: SentenceTransformer, batch: Triplets) -> None:
    """Run one padded batch forward and backward, every weight requiring gradients."""
    embeddings = []
    for texts in ([item.query for item in batch], [text for item in batch for text in item.passages]):
        tokens = model.tokenizer(texts, padding="max_length", truncation=True, max_length=PADDED, return_tensors="pt")
        embeddings.append(model(dict(tokens))["sentence_embedding"])
    owners = torch.tensor([index for index, item in enumerate(batch) for _ in item.passages])
    model.zero_grad()
    info_nce(*embeddings, owners, temperature=0.05, in_batch=True).mean().backward()


def _batch_fisher(model: SentenceTransformer, chosen: list[LinearLayer], triplets: Triplets) -> None:
    """Squared gradients of batches' mean losses, summed for every matrix."""
    sums = {matrix.name: torch.zeros_like(matrix.module.weight) for matrix in chosen}
    for start in range(0, len(triplets), BATCH):
        _backward(model, triplets[start : start + BATCH])
        for matrix in chosen:
            sums[matrix.name] += _gradient(matrix).square()


def _alignment(model: SentenceTransformer, chosen: list[LinearLayer], both: list[Triplets]) -> None:
    """Clone the gradients of both kinds of data to the host, batch by batch, and take the products of their means."""
    means = []
    for triplets in both:
        kept: dict[str, torch.Tensor] = {}
        for start in range(0, len(triplets), BATCH):
            _backward(model, triplets[start : start + BATCH])
            clones = {matrix.name: _gradient(matrix).clone().cpu() for matrix in chosen}
            kept = {name: kept.get(name, 0) + clone for name, clone in clones.items()}
        means.append({name: total / len(triplets) for name, total in kept.items()})
    for name, domain in means[0].items():
        (domain / domain.norm()) * (means[1][name] / means[1][name].norm())


def _gradient(matrix: LinearLayer) -> torch.Tensor:
    if matrix.module.weight.grad is None:
        raise SystemExit(f"{matrix.name} has no gradient.")
    return matrix.module.weight.grad


def main() -> None:
    """Run what the command line asks for and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ratio", "release", "compile", "attention", "part"])
    parser.add_argument("--model", choices=["minilm", "qwen3"], default="minilm")
    parser.add_argument("--triplets", type=int, default=None, help="64, 200 a side for release, by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of both sides; one, where others use the machine")
    parser.add_argument("--part", default="ours", help="one process of release")
    parser.add_argument("--out", type=Path, default=RESULTS / "measuring.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with quiet():
        if arguments.what == "part":
            part(arguments.part, arguments.triplets)
            return
        if arguments.what == "release":
            cell = release(arguments.triplets or 200, Lines(arguments.out))
        elif arguments.what == "attention":
            cell = attention(arguments.repeats)
        else:
            alternate = {"ratio": ratio, "compile": compiled}[arguments.what]
            cell = alternate(arguments.model, arguments.triplets or 64, arguments.repeats)
    cell["machine"] = machine()
    Lines(arguments.out).add(cell)
    sys.stdout.write(json.dumps(cell, indent=2) + "\n")


if __name__ == "__main__":
    main()
