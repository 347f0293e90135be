"""Measurements in processes of their own, forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Collection
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

__all__ = ["PROJECTED", "STATISTICS", "command", "measure_once", "server", "together"]

STATISTICS: tuple[Statistic, ...] = ("fisher", "gradient", "gram", "input", "input_square")
PROJECTED: tuple[Statistic, ...] = ("gram", "input", "output_gram")


def server() -> Any:
    """Return the multiprocessing context: no import is paid twice, and no autograd is forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gaprune.cli.app", "sentence_transformers.base.modules", "torch.distributed.fsdp"])
    return context


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


def command(printed: Path, *arguments: str) -> None:
    """Run the program; what it prints goes to a file of this process."""
    from gaprune.cli.app import main

    torch.set_num_threads(1)
    sys.argv = ["gaprune", *arguments]
    with printed.with_name(f"{printed.name}-{os.environ['RANK']}").open("w", encoding="utf-8") as sys.stdout:
        main()


def _groups(names: list[str], count: int) -> tuple[tuple[str, ...], ...]:
    bounds = [len(names) * index // count for index in range(count + 1)]
    return tuple(tuple(names[bounds[i] : bounds[i + 1]]) for i in range(count))


def together(count: int, target: Callable[..., None], *arguments: Any, **options: Any) -> list[int | None]:
    """Run ``target`` in so many processes that a launcher would have made; return their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = server()
    processes = []
    for index in range(count):
        environment = {
            "RANK": str(index),
            "LOCAL_RANK": str(index),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        processes.append(context.Process(target=_as_launched, args=(environment, target, arguments, options)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def _as_launched(
    environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    os.environ |= environment
    target(*arguments, **options)
