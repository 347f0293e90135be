"""Amounts of memory: read from words, shown in words, and how much of it is free."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["free_bytes", "give_back", "parse_bytes", "show_bytes"]

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = ("", "K", "M", "G", "T")

_CGROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of a container."""


def parse_bytes(text: str) -> int:
    """Return ``"8GB"`` (a thousand MB a GB), ``"8GiB"`` (1024 MiB a GiB) or a plain number as bytes.

    Raises:
        ValueError: If it is no positive amount.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is no amount of memory, such as 8GB or 512MiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS.index(match[2].upper()))


def show_bytes(count: float) -> str:
    """Return bytes in words, such as ``1.6 GB``."""
    for power in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {power}" if power == "B" else f"{count:.3g} {power}"
        count /= 1000
    return f"{count:.3g} GB"


def free_bytes(device: torch.device) -> int:
    """Return the memory that this process may still take on ``device``.

    On the host that is what is available there and left of the container's limit, shared with the other processes
    that were launched with this one.
    """
    import psutil
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = int(psutil.virtual_memory().available)
    limit, used = (_read(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        available = min(available, limit - used)
    return max(available, 0) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def give_back() -> None:
    """Give the system the memory that was freed, which glibc keeps for itself in pieces up to 32 MB."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _read(path: Path) -> int | None:
    """Return the number in a file of the container's limits; ``None`` where there is none."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="ascii").strip()
    return int(text) if text.isdigit() else None
