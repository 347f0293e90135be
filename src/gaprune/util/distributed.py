"""Processes that ``torchrun`` or ``accelerate launch`` started: their number and rank, and sums over all of them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from gaprune.errors import MeasurementError

_PATIENCE = timedelta(days=2)
"""Longest time that a process waits for the others, which may have longer texts; the end of one is noticed at once."""


def launched_processes() -> int:
    """Return the number of processes that the launcher announces in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_process_group() -> None:
    """Join the process group that the launcher announces in the environment, unless it was joined before.

    Raises:
        MeasurementError: If another process ended meanwhile.
    """
    if launched_processes() < 2 or distributed.is_initialized():
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # gloo for numbers on the host, which agreeing needs on machines with accelerators too
    with _others():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    atexit.register(lambda: distributed.destroy_process_group() if distributed.is_initialized() else None)


def world_size() -> int:
    """Return the number of processes; one without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return which process this is, from zero; only process zero writes results."""
    return distributed.get_rank() if world_size() > 1 else 0


def all_reduce_min(value: int) -> int:
    """Return the minimum of a number over all processes."""
    return min(map(int, gather(value)))


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    with _others():
        distributed.all_gather_object(found, value)
    return found


def sum_over_processes(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by its sum over all processes, which hold the same shapes in the same order."""
    if world_size() == 1:
        return
    with _others():
        for tensor in tensors:
            distributed.all_reduce(tensor)


@contextmanager
def _others() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise MeasurementError(
            f"Another process ended before its part was measured: {str(error).partition(chr(10))[0]}",
            "Its own message says why. With --checkpoint, what was measured is kept; start again with --resume.",
        ) from error
