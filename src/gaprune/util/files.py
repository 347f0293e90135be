"""Small files, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gaprune.errors import OutputError

__all__ = ["check_file", "check_parent", "replacing", "temporary_folder", "write_json", "write_text"]


def check_parent(path: Path) -> None:
    """Check that ``path`` can be made: the nearest folder above it that exists can be written.

    Raises:
        OutputError: If it cannot.
    """
    existing = _existing_parent(path)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise OutputError(f"{path} cannot be made: {existing} is not writable.", "Choose another place.")


def _existing_parent(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.exists())


def check_file(path: str | Path, *, overwrite: bool = False) -> Path:
    """Return ``path`` if a file can be written there; call it before the expensive work.

    Raises:
        OutputError: If it is a folder, exists and ``overwrite`` is false, or its folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists.", "Choose another name, or replace it with --overwrite (overwrite=True).")
    check_parent(path)
    return path


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Give a file beside ``path`` to write: it takes its name at the end of the block, or goes if that fails.

    Args:
        path: The file.
        shared: Whether other programs may write the same file meanwhile, each its own; the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial" if shared else f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def temporary_folder(beside: str | Path | None) -> Iterator[Path]:
    """Give a folder for large files that goes at the end of the block.

    Args:
        beside: What it lies beside, on the same disk, whether that exists or not; the system's place for temporary
            files where nothing is named.

    Raises:
        OutputError: If it cannot be made.
    """
    place = None if beside is None else _existing_parent(Path(beside))
    try:
        folder = Path(tempfile.mkdtemp(prefix=".gaprune-", dir=place))
    except OSError as error:
        raise OutputError(f"No temporary folder can be made: {error}", "Make room, or set TMPDIR.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path``, moved into place when complete.

    Raises:
        OutputError: If it cannot be written there.
    """
    path = Path(path)
    try:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}", "Name a file in a folder you can write to.") from error
    return path


def write_json(path: str | Path, content: Any) -> Path:
    """Write ``content`` as JSON to ``path``, as :func:`write_text` does."""
    return write_text(path, json.dumps(content, indent=2) + "\n")
