"""Measuring what a model costs, beside its parent."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.benchmark import Benchmark, Cost
from gaprune.evaluation.cost.footprint import Flops, count_flops, footprint
from gaprune.evaluation.cost.latency import check_lengths, computing_with, time_models
from gaprune.evaluation.cost.memory import is_measurable, measure_memory
from gaprune.evaluation.cost.workload import Workload, texts_of_length
from gaprune.export.provenance import PROVENANCE_FILE, Provenance, versions
from gaprune.models.demo import local_folder
from gaprune.models.encoders import Encoder, TorchModel, open_encoder
from gaprune.models.formats import check_runnable, format_of
from gaprune.models.names import model_name
from gaprune.report.cost import benchmark_markdown
from gaprune.report.markdown import put_section
from gaprune.util.files import folder_bytes, write_text
from gaprune.util.progress import track

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
    """Measure parameters, FLOPs, bytes, memory and time of a model, beside its parent if one is named.

    Time is measured from texts to embeddings, with model and parent in turn in this process. Memory is that of a new
    process per model. Folders that `gaprune export` wrote run in their own runtime.

    Args:
        model: Folder of a model.
        parent: Folder of the model to compare it with.
        batch_sizes: Texts per batch; 1 and 32 by default.
        lengths: Tokens per text, by the parent's tokenizer; 32 and 128 by default.
        rounds: How often each model is timed; 10 by default.
        threads: Threads to compute with; PyTorch's own choice by default.
        memory: Whether to measure memory, which loads every model once more.
        device: Torch device; the CPU by default.
        trust_remote_code: Whether code that comes with the models may run.

    Raises:
        GapruneError: One of its kinds; options and folders are checked before a model is loaded.

    Example:
        >>> gaprune.bench("pruned-onnx", "pruned", threads=1).ratios["latency, batch 1, 32 tokens"]
    """
    workload = Workload.build({"batch_sizes": batch_sizes, "lengths": lengths, "rounds": rounds, "threads": threads})
    folders = [Path(local_folder(each)) for each in (model, parent) if each is not None]
    _check(folders, memory=memory, device=device)

    with computing_with(workload.threads) as running:
        loading: dict[str, Any] = {
            "threads": running,
            "device": device or _DEVICE,
            "trust_remote_code": trust_remote_code,
        }
        encoders = [open_encoder(folder, **loading) for folder in folders]
        check_lengths(dict(zip(folders, encoders, strict=True)), workload.lengths)
        timings = time_models(encoders, workload)
    largest = max(workload.batch_sizes)
    texts = texts_of_length(max(workload.lengths), largest, encoders[-1].lengths)
    costs = [
        Cost(
            name=model_name(folder.resolve()),
            format=encoder.format,
            disk=folder_bytes(folder),
            memory=measure_memory(folder, texts, batch_size=largest, **loading) if memory else None,
            timings=timed,
            **_count(folder, encoder),
        )
        for folder, encoder, timed in zip(track(folders, "Measuring memory"), encoders, timings, strict=True)
    ]
    settings = {
        **workload.model_dump(mode="json"),
        "threads": running,
        "device": loading["device"],
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    return Benchmark(costs[0], costs[1] if len(costs) > 1 else None, settings)


def _check(folders: Sequence[Path], *, memory: bool, device: str | None) -> None:
    """Refuse folders and options that cannot be measured, before a model is loaded."""
    for folder in folders:
        if not folder.is_dir():
            raise ModelError(
                f"{folder} is not a folder.", "Name the folder of a model; download one that is on the hub."
            )
        check_runnable(folder)
    if memory and not is_measurable():
        raise ConfigError("memory: only Linux reports it.", "Leave it out: --no-memory (memory=False).")
    exported = [folder for folder in folders if format_of(folder) != "torch"]
    if device is not None and exported:
        raise ConfigError(
            f"device: {exported[0]} is exported and runs on the CPU, so the models would be on different devices.",
            "Leave --device (device=...) out.",
        )


def _count(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """Return parameters, fraction of zeros and FLOPs: of the model, or as recorded when it was exported."""
    if isinstance(encoder, TorchModel):
        found = footprint(encoder.model)
        zeros = found.sparsity([layer.name for layer in found.linear_layers])
        return {"parameters": found.parameters, "zeros": zeros, "flops": count_flops(encoder.model)}
    provenance = Provenance.read(folder)
    if provenance is None or provenance.export is None:
        raise ModelError(f"{folder} does not say what was exported.", "Export the model with `gaprune export`.")
    return {"parameters": provenance.export.parameters, "zeros": None, "flops": Flops(**provenance.export.flops)}


def _processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def check_card(folder: str | Path) -> Path:
    """Return the card of a folder that GAPrune wrote; call it before the measurement.

    Raises:
        ConfigError: If GAPrune did not make the model, or it has no card.
    """
    card = Path(folder) / "README.md"
    if not (Path(folder) / PROVENANCE_FILE).is_file():
        raise ConfigError(
            f"write_card: GAPrune did not make {folder} (it has no {PROVENANCE_FILE}).",
            "Only cards that GAPrune wrote are changed; leave --write-card out.",
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
