"""A recovery in a process of its own, which can be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["recover_once"]


def recover_once(folder: Path, out: Path, options: dict[str, Any], ready: Any) -> None:
    """Recover ``folder`` on one thread, after saying that it begins."""
    import torch

    from gaprune.pipelines.recover import recover

    torch.set_num_threads(1)
    ready.set()
    recover(folder, out=out, **options)
