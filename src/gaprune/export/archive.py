"""A model folder in one file, without loss: zeros cost a bit each, everything else is compressed by byte planes.

The file is an ordinary zip: ``archive.json`` says what is in it, ``plain/PATH`` are files as they are, and
``tensors/PATH/`` holds a safetensors file as its header, the bitmask of all its tensors and their byte planes
(:mod:`gaprune.export.planes`). Nothing in it is run or unpickled, and every file is checked by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from gaprune.errors import ModelError, OutputError
from gaprune.export.folder import writing
from gaprune.export.planes import Bytes, Layout, Part, join, mask_pays, split
from gaprune.util.files import check_file, replacing

__all__ = ["Packed", "pack", "unpack"]

_FORMAT = "gaprune-archive"
_VERSION = 1
_MANIFEST = "archive.json"
_LEVEL = 6


@dataclass(frozen=True)
class Packed:
    """An archive and what it saves.

    Args:
        path: The archive.
        bytes: Its size.
        folder_bytes: Size of all files of the folder.
        zip_bytes: Size of an ordinary zip of the folder, made to compare.
    """

    path: Path
    bytes: int
    folder_bytes: int
    zip_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "to": "archive",
            "path": str(self.path),
            "bytes": self.bytes,
            "folder_bytes": self.folder_bytes,
            "zip_bytes": self.zip_bytes,
        }


def pack(folder: str | Path, out: str | Path, *, overwrite: bool = False) -> Packed:
    """Pack the model in ``folder`` into the file ``out``; :func:`unpack` gives every file back bit by bit.

    Raises:
        ModelError: If the folder holds no safetensors file, or one that is damaged.
        OutputError: If ``out`` cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder.", "Name the folder of a model.")
    out = check_file(out, overwrite=overwrite)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if not any(file.suffix == ".safetensors" for file in files):
        raise ModelError(f"The folder {folder} holds no weights (no .safetensors file).", "Name a model's own folder.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{out} lies in the folder that is packed.", "Name a file outside of it.")
    try:
        with replacing(out) as partial:
            _write(folder, files, partial)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}", "Make room, or choose another --out.") from error
    return Packed(
        path=out,
        bytes=out.stat().st_size,
        folder_bytes=sum(file.stat().st_size for file in files),
        zip_bytes=_zip_bytes(folder, files),
    )


def unpack(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write the folder that was packed into ``file`` to ``out``, every file as it was, bit by bit.

    Raises:
        ModelError: If ``file`` is no archive of ours, or is damaged or cut off.
        OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
    """
    file = Path(file)
    with _readable(file) as archive:
        entries = _entries(file, archive)
        with writing(out, overwrite=overwrite) as partial:
            for entry in entries:
                target = partial / entry["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with target.open("wb") as sink:
                    for piece in _content(archive, entry):
                        digest.update(piece)
                        sink.write(piece)
                if digest.hexdigest() != entry["sha256"]:
                    raise ValueError(f"{entry['path']} is not what was packed")
    return Path(out).resolve()


def _write(folder: Path, files: list[Path], path: Path) -> None:
    entries: list[dict[str, Any]] = []
    layouts: dict[str, tuple[Bytes, Layout]] = {}
    for file in files:
        name = file.relative_to(folder).as_posix()
        content = _mapped(file)
        entry: dict[str, Any] = {
            "path": name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content.data).hexdigest(),
        }
        if file.suffix == ".safetensors":
            layout = _layout(file, content)
            layouts[name] = content, layout
            entry["masked"] = [part.name for part in layout.parts if mask_pays(_of(content, part), part.size)]
        entries.append(entry)
    manifest = {"format": _FORMAT, "version": _VERSION, "files": entries}
    with _zip(path) as archive:
        with _member(archive, _MANIFEST) as sink:
            sink.write(json.dumps(manifest, indent=1).encode())
        for file, entry in zip(files, entries, strict=True):
            if "masked" not in entry:
                with _member(archive, f"plain/{entry['path']}") as sink:
                    sink.write(_mapped(file).data)
            else:
                _write_tensors(archive, entry, *layouts[entry["path"]])


def _write_tensors(archive: zipfile.ZipFile, entry: dict[str, Any], content: Bytes, layout: Layout) -> None:
    """Write one stream after the other, since a zip takes one member at a time; only one tensor is in memory."""
    masked, base = set(entry["masked"]), f"tensors/{entry['path']}"
    with _member(archive, f"{base}/head") as sink:
        sink.write(content[: layout.head].data)
    with _member(archive, f"{base}/mask") as sink:
        for part in layout.parts:
            if part.name in masked:
                sink.write(split(_of(content, part), part.size, masked=True)[0])
    for size, plane in _streams(layout):
        with _member(archive, f"{base}/{_stream(size, plane)}") as sink:
            for part in layout.parts:
                if part.size == size:
                    sink.write(split(_of(content, part), size, masked=part.name in masked)[1][plane])


def _content(archive: zipfile.ZipFile, entry: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of one file, a tensor at a time."""
    if "masked" not in entry:
        with archive.open(f"plain/{entry['path']}") as source:
            while piece := source.read(1 << 20):
                yield piece
        return
    masked, base = set(entry["masked"]), f"tensors/{entry['path']}"
    head = archive.read(f"{base}/head")
    yield head
    layout = Layout.read(np.frombuffer(head, dtype=np.uint8))
    if layout.end != entry["bytes"]:
        raise ValueError(f"the header of {entry['path']} is not that of its tensors")
    with ExitStack() as opened:
        bits = opened.enter_context(archive.open(f"{base}/mask"))
        streams = {key: opened.enter_context(archive.open(f"{base}/{_stream(*key)}")) for key in _streams(layout)}
        for part in layout.parts:
            elements = part.bytes // part.size
            mask = _exactly(bits, -(-elements // 8)) if part.name in masked else None
            kept = elements if mask is None else int(np.unpackbits(mask, count=elements).sum())
            planes = [_exactly(streams[part.size, plane], kept) for plane in range(part.size)]
            yield join(mask, planes, elements).data


def _streams(layout: Layout) -> list[tuple[int, int]]:
    """Return ``(size, plane)`` of every byte plane."""
    return [(size, plane) for size in sorted({part.size for part in layout.parts}) for plane in range(size)]


def _stream(size: int, plane: int) -> str:
    return f"bytes-{size}-{plane}"


def _of(content: Bytes, part: Part) -> Bytes:
    return content[part.start : part.start + part.bytes]


def _exactly(source: IO[bytes], count: int) -> Bytes:
    found = source.read(count)
    if len(found) != count:
        raise ValueError("a stream of tensors ends early")
    return np.frombuffer(found, dtype=np.uint8)


def _mapped(file: Path) -> Bytes:
    if file.stat().st_size == 0:
        return np.empty(0, dtype=np.uint8)
    return np.memmap(file, dtype=np.uint8, mode="r")


def _layout(file: Path, content: Bytes) -> Layout:
    remedy = "Restore it; only a sound model is packed."
    try:
        layout = Layout.read(content)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"{file} is not a safetensors file: {error}.", remedy) from error
    if layout.end != len(content):
        raise ModelError(f"{file} has {len(content):,} bytes where its header says {layout.end:,}.", remedy)
    return layout


def _zip(sink: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(sink, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a new member; without a time of its own, so that the same folder gives the same archive."""
    return archive.open(name, "w", force_zip64=True)


@contextmanager
def _readable(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever proves it damaged, inside the block too, is said as such."""
    if not file.is_file():
        raise ModelError(f"{file} is no file.", "Name an archive that `gaprune export --to archive` wrote.")
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        NotImplementedError,
    ) as error:
        raise ModelError(
            f"{file} is no archive of GAPrune, or is damaged or cut off: {error}.",
            "Copy it again from where it was made, or pack the model again.",
        ) from error


def _entries(file: Path, archive: zipfile.ZipFile) -> list[dict[str, Any]]:
    manifest = json.loads(archive.read(_MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ValueError(f"its {_MANIFEST} is not ours")
    if manifest["version"] != _VERSION:
        raise ModelError(
            f"{file} is an archive of version {manifest['version']}, and this GAPrune reads version {_VERSION}.",
            "Unpack it with the GAPrune that made it, or a newer one.",
        )
    entries: list[dict[str, Any]] = manifest["files"]
    for entry in entries:
        path = PurePosixPath(entry["path"])
        if path.is_absolute() or ".." in path.parts or "\\" in entry["path"] or ":" in entry["path"]:
            raise ModelError(
                f"{file} would write outside of the output folder: {entry['path']!r}.", "Do not trust this file."
            )
    return entries


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, content: bytes) -> int:
        self.bytes += len(content)
        return len(content)

    def flush(self) -> None:
        """Do nothing: there is nothing to write."""


def _zip_bytes(folder: Path, files: list[Path]) -> int:
    counter = _Counter()
    with _zip(counter) as archive:
        for file in files:
            with _member(archive, file.relative_to(folder).as_posix()) as sink:
                sink.write(_mapped(file).data)
    return counter.bytes
