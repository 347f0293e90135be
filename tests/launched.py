"""Processes of a test, forked from a server that has imported everything: one alone, or several as from a launcher."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["command", "server", "together"]


def server() -> Any:
    """Return the multiprocessing context: no import is paid twice, and no autograd is forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gaprune.cli.app", "gaprune.recovery.trainer", "torch.distributed.fsdp"])
    return context


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


def command(printed: Path, *arguments: str) -> None:
    """Run the program; what each process prints goes to ``PRINTED-RANK.out`` and ``.err``."""
    import torch

    from gaprune.cli.app import main

    torch.set_num_threads(1)
    sys.argv = ["gaprune", *arguments]
    out, err = (Path(f"{printed}-{os.environ['RANK']}.{stream}") for stream in ("out", "err"))
    with out.open("w", encoding="utf-8") as sys.stdout, err.open("w", encoding="utf-8") as sys.stderr:
        main()


def _as_launched(
    environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    os.environ |= environment
    target(*arguments, **options)
