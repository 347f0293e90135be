"""Measuring what a model costs, beside its parent."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.benchmark import Benchmark, Cost
from gaprune.evaluation.cost.flops import Flops, count_flops
from gaprune.evaluation.cost.footprint import footprint
from gaprune.evaluation.cost.latency import Timing, check_lengths, computing_with, time_models
from gaprune.evaluation.cost.memory import Memory, is_measurable, measure_memory
from gaprune.evaluation.cost.size import folder_bytes
from gaprune.evaluation.cost.workload import Workload, texts_of_length
from gaprune.export.provenance import PROVENANCE_FILE, Provenance, versions
from gaprune.models.encoders import Encoder, TorchModel, open_encoder
from gaprune.models.formats import format_of
from gaprune.report.cost import benchmark_markdown
from gaprune.report.section import put_section
from gaprune.util.files import write_text
from gaprune.util.progress import track

__all__ = ["bench", "check_card", "write_card"]

_DEVICE = "cpu"


def bench(
    model: str | Path,
    parent: str | Path | None = None,
    *,
    batch_sizes: Sequence[int] | str | int | None = None,
    lengths: Sequence[int] | str | int | None = None,
    rounds: int | None = None,
    threads: int | None = None,
    memory: bool = True,
    device: str | None = None,
    trust_remote_code: bool = False,
) -> Benchmark:
    """Measure parameters, FLOPs, bytes, memory and time of a model, beside its parent where one is named.

    Time is taken from texts to embeddings, model and parent in turn in this process. Memory is that of a fresh
    process for each model. Folders that `gaprune export` wrote run in their own runtime.

    Args:
        model: Folder of a model.
        parent: Folder of what to compare it with.
        batch_sizes: Texts at a time; 1 and 32 where none are given.
        lengths: Tokens of every text, by the parent's tokenizer; 32 and 128 where none are given.
        rounds: How often each is timed; 10 where it is not given.
        threads: Threads to compute with; what PyTorch chose where none are given.
        memory: Whether to measure memory, which loads every model once more.
        device: Torch device; the CPU where none is given.
        trust_remote_code: Whether code that comes with the models may run.

    Raises:
        GapruneError: One of its kinds; options and folders are checked before a model is loaded.

    Example:
        >>> gaprune.bench("pruned-onnx", "pruned", threads=1).ratios["latency, batch 1, 32 tokens"]
    """
    workload = Workload.build(batch_sizes=batch_sizes, lengths=lengths, rounds=rounds, threads=threads)
    folders = [Path(each) for each in (model, parent) if each is not None]
    for folder in folders:
        if not folder.is_dir():
            raise ModelError(f"{folder} is no folder.", "Name the folder of a model; download one that is on the hub.")
    if memory and not is_measurable():
        raise ConfigError(
            "memory: this system does not tell it (there is no /proc).", "Leave it out: --no-memory (memory=False)."
        )
    exported = [folder for folder in folders if format_of(folder) != "torch"]
    if device is not None and exported:
        raise ConfigError(
            f"device: {exported[0]} is exported and runs on the CPU, so a device would be that of the other alone.",
            "Leave --device (device=...) out.",
        )
    device = device or _DEVICE
    with computing_with(workload.threads) as running:
        encoders = [
            open_encoder(folder, threads=running, device=device, trust_remote_code=trust_remote_code)
            for folder in folders
        ]
        check_lengths([(str(folder), each) for folder, each in zip(folders, encoders, strict=True)], workload.lengths)
        timings = time_models(encoders, workload)
        sizes = [_size(folder, encoder) for folder, encoder in zip(folders, encoders, strict=True)]
    texts = texts_of_length(max(workload.lengths), max(workload.batch_sizes), encoders[-1].lengths)
    taken = [
        measure_memory(
            folder,
            texts,
            batch_size=max(workload.batch_sizes),
            threads=running,
            device=device,
            trust_remote_code=trust_remote_code,
        )
        if memory
        else None
        for folder in track(folders, "Measuring memory")
    ]
    costs = [
        _cost(folder, encoder, size, each, timing)
        for folder, encoder, size, each, timing in zip(folders, encoders, sizes, taken, timings, strict=True)
    ]
    settings = {
        **workload.model_dump(mode="json"),
        "threads": running,
        "device": device,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    return Benchmark(costs[0], costs[1] if len(costs) > 1 else None, settings)


def check_card(folder: str | Path) -> Path:
    """Return the card of an output of ours; call it before measuring what it will say.

    Raises:
        ConfigError: If GAPrune did not make the model, or it has no card.
    """
    card = Path(folder) / "README.md"
    if not (Path(folder) / PROVENANCE_FILE).is_file():
        raise ConfigError(
            f"write_card: GAPrune did not make {folder} (it has no {PROVENANCE_FILE}).",
            "Only cards of our own outputs are changed; leave --write-card out.",
        )
    if not card.is_file():
        raise ConfigError(f"write_card: {folder} has no README.md.", "Leave --write-card out.")
    return card


def write_card(benchmark: Benchmark, folder: str | Path) -> Path:
    """Put the table into the model's ``README.md``, in place of an earlier one.

    Raises:
        ConfigError: If GAPrune did not make the model, or it has no card.
        OutputError: If the card cannot be written.
    """
    card = check_card(folder)
    section = f"## Cost\n\n{benchmark_markdown(benchmark)}"
    return write_text(card, put_section(card.read_text(encoding="utf-8"), "bench", section))


@dataclass(frozen=True)
class _Size:
    """Parameters, the fraction of zeros in matrices, and FLOPs."""

    parameters: int
    zeros: float | None
    flops: Flops


def _size(folder: Path, encoder: Encoder) -> _Size:
    """Return what can be counted, or was when the model was exported."""
    if isinstance(encoder, TorchModel):
        found = footprint(encoder.model)
        zeros = found.sparsity([matrix.name for matrix in found.linear_layers])
        return _Size(found.parameters, zeros, count_flops(encoder.model))
    provenance = Provenance.read(folder)
    if provenance is None or provenance.export is None:
        raise ModelError(f"{folder} does not say what was exported.", "Export the model with `gaprune export`.")
    return _Size(provenance.export.parameters, None, Flops(**provenance.export.flops))


def _cost(folder: Path, encoder: Encoder, size: _Size, memory: Memory | None, timings: tuple[Timing, ...]) -> Cost:
    return Cost(
        name=folder.resolve().name,
        format=encoder.format,
        parameters=size.parameters,
        zeros=size.zeros,
        flops=size.flops,
        disk=folder_bytes(folder),
        memory=memory,
        timings=timings,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
