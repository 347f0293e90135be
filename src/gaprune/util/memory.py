"""Memory: sizes in words, and how much is free."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def show_bytes(count: float) -> str:
    """Return a number of bytes in words, such as ``1.62 GB``: with three digits, which advice needs to be followed."""
    for power in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {power}" if power == "B" else f"{count:.3g} {power}"
        count /= 1000
    return f"{count:.3g} GB"


def free_bytes(device: torch.device, *, root: Path = Path("/")) -> int:
    """Return the memory that this process may still take on ``device``.

    On the host that is the least of what is available there and of what the control groups of this process (the
    limits of a container or a service) leave, shared among the processes that a launcher started together.
    """
    import psutil
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = min([int(psutil.virtual_memory().available), *_left_by_control_groups(root)])
    return max(available, 0) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


_VERSIONS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Folder and file names of both versions of control groups, by the controllers in ``proc/self/cgroup``."""


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """Yield limit less usage of every control group with a limit that this process is in.

    File pages that were not used lately count as free, because the system gives them up when memory is needed.
    """
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        for name in _VERSIONS.keys() & set(controllers.split(",")):
            mount, limit_file, usage_file, cache = _VERSIONS[name]
            folder = root / mount / group.lstrip("/")
            while folder.is_relative_to(root / mount):  # a limit of a group holds for the groups in it too
                limit, usage = _numbers(folder / limit_file), _numbers(folder / usage_file)
                if limit and usage:
                    yield limit[""] - usage[""] + _numbers(folder / "memory.stat").get(cache, 0)
                folder = folder.parent


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a file of a control group by what precedes them; none if there is no such file."""
    if not path.is_file():
        return {}
    lines = [line.rpartition(" ") for line in path.read_text(encoding="ascii").splitlines()]
    return {name: int(number) for name, _, number in lines if number.isdigit()}


def give_back() -> None:
    """Return freed memory to the system; glibc keeps pieces of up to 32 MB for itself otherwise."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
