"""Measurements in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.read import read_triplets
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.statistics import plan
from gaprune.statistics.checkpoint import Checkpoint
from gaprune.statistics.measure import measure
from gaprune.statistics.sums import Statistic
from gaprune.util.distributed import join_process_group, rank, world_size
from gaprune.util.progress import quiet
from plain_loop import reached

__all__ = ["PROJECTED", "STATISTICS", "measure_once"]

STATISTICS: tuple[Statistic, ...] = ("fisher", "gradient", "gram", "input", "input_square")
PROJECTED: tuple[Statistic, ...] = ("gram", "input", "output_gram")


def measure_once(
    folder: Path,
    triplets: Path,
    out: Path,
    *,
    statistics: Collection[Statistic] = STATISTICS,
    checkpoint: Path | None = None,
    passes: int = 1,
    pause: float = 0.0,
    ready: Any = None,
    **options: Any,
) -> None:
    """Measure a tiny model, resuming what is there, and write all sums to a file."""
    torch.set_num_threads(1)
    join_process_group()
    model = load_model(folder, device="cpu")
    model.register_forward_hook(lambda *_: time.sleep(pause))
    plan._groups = lambda sizes, _room: _groups(list(sizes), passes)
    with quiet():
        if ready is not None:
            ready.set()
        statistics = measure(
            model,
            read_triplets(triplets),
            reached(model),
            statistics=statistics,
            prompts=Prompts(),
            options=MeasurementOptions(**options),
            checkpoint=None if checkpoint is None else Checkpoint(checkpoint, resume=True, every=0),
        )
    tensors = {
        f"{name} {key}": total.clone() for name, each in statistics.items() for key, total in each.tensors().items()
    }
    counts = {name: torch.tensor([each.samples, each.triplets, each.tokens]) for name, each in statistics.items()}
    save_file(tensors | counts, out.with_name(f"{out.name}-{rank() if world_size() > 1 else 0}"))


def _groups(names: list[str], count: int) -> tuple[tuple[str, ...], ...]:
    bounds = [len(names) * index // count for index in range(count + 1)]
    return tuple(tuple(names[bounds[i] : bounds[i + 1]]) for i in range(count))
