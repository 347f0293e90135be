"""Files that are written whole or not at all, locks on files that several runs use, and temporary folders."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gaprune.errors import OutputError
from gaprune.util.progress import say

_PARTIAL = ".partial"


def check_parent(path: Path) -> None:
    """Check that ``path`` can be made: the nearest existing folder above it is writable.

    Raises:
        OutputError: If it is not.
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
    path = Path(path).expanduser()
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Give the name of a file.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists.", "Choose another name, or replace it with --overwrite (overwrite=True).")
    check_parent(path)
    return path


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give an unused path for a file or folder, on the same disk as ``path``; it is deleted at the end of the block.

    It has the same name as ``path`` and lies in a new hidden folder beside it. Two runs never get the same one, and
    what is made there has the mode that the umask allows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent))
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, which replaces ``path`` at the end of the block and is deleted if that fails.

    Several programs may write the same file at the same time: each writes its own, and the last one remains.
    """
    with temporary_beside(path) as partial:
        yield partial
        partial.replace(path)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep all other runs from ``path``, a file or folder that need not exist, until the end of the block.

    What killed runs left half written, of the file or in the folder, is deleted.

    Raises:
        OutputError: If another run holds the lock and ``wait`` is false, or no lock can be made there.
    """
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if not wait:
                raise OutputError(f"{path} is in use by another run.", "Wait for it, or name another place.") from None
            say(f"Waiting for another run that uses {path}.")
            lock.acquire()
        beside = path.parent.glob(f".{escape(path.name)}.*{_PARTIAL}")
        for stale in (*beside, *path.glob(f".*{_PARTIAL}")):
            shutil.rmtree(stale)
    except OSError as error:
        raise OutputError(f"{path} cannot be locked: {error}", "Name a place that you can write to.") from error
    try:
        yield
    finally:
        with suppress(OSError):  # systems that do not delete open files keep it
            file.unlink()  # before the release; whoever waits for this file notices, and makes a new one
        lock.release()


@contextmanager
def temporary_folder(beside: str | Path | None) -> Iterator[Path]:
    """Give a folder for large files, which is deleted at the end of the block.

    Args:
        beside: The path beside which the folder lies, on the same disk; it need not exist. ``None`` stands for the
            system's folder of temporary files, or ``/var/tmp`` if that one is held in memory.

    Raises:
        OutputError: If the folder cannot be made.
    """
    place = _temporary_place() if beside is None else _existing_parent(Path(beside))
    try:
        folder = Path(tempfile.mkdtemp(prefix=".gaprune-", dir=place))
    except OSError as error:
        raise OutputError(f"No temporary folder can be made: {error}", "Make room, or set TMPDIR.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _temporary_place() -> Path:
    """Return the folder for temporary files, on a disk if there is one; ``TMPDIR`` is obeyed."""
    place, disk = Path(tempfile.gettempdir()), Path("/var/tmp")  # noqa: S108 (only unique names are made there)
    if "TMPDIR" in os.environ or not _is_in_memory(place) or not os.access(disk, os.W_OK) or _is_in_memory(disk):
        return place
    return disk


def _is_in_memory(folder: Path) -> bool:
    import psutil

    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    resolved = folder.resolve()
    return next((mounts[each] for each in (resolved, *resolved.parents) if each in mounts), "") in {"tmpfs", "ramfs"}


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` to ``path``, which is replaced when the new file is complete.

    Raises:
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}", "Name a file in a folder you can write to.") from error
    return path


def write_json(path: str | Path, content: Any, *, ascii_only: bool = True) -> Path:
    """Write ``content`` as JSON to ``path``, as :func:`write_text` does; file names may hold what is not Unicode."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=ascii_only) + "\n")


def folder_bytes(folder: str | Path) -> int:
    """Return the bytes of all files in ``folder`` and below, links followed."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
