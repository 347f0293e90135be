"""The size of a model on disk."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder_bytes"]


def folder_bytes(folder: str | Path) -> int:
    """Return the bytes of all files in ``folder`` and below, links followed."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
