"""A model folder as one file, without loss: of weights that are zero it keeps one bit each.

The file is a zip with one member per file, and ``archive.json`` with the length, SHA-256 and word size of each. For
every piece of a safetensors file, the member holds the bitmask of the words that are not zero, then all first bytes of
these words, all second bytes, and so on: signs and exponents lie together and compress. ``-0.0`` is not a zero word.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from gaprune.errors import ConfigError, ModelError, OutputError
from gaprune.export.folder import writing
from gaprune.util.files import check_file, replacing
from gaprune.util.tensor_store import StoredTensors

_MANIFEST = "archive.json"
_FORMAT = {"format": "gaprune-archive", "version": 2}
_PIECE = 1 << 23  # bytes of a file that are in memory at a time; a multiple of every word


@dataclass(frozen=True)
class Packed:
    """An archive, its size, and the size of all files of the folder."""

    path: Path
    bytes: int
    folder_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"to": "archive", **asdict(self), "path": str(self.path)}


def pack(folder: str | Path, out: str | Path, *, overwrite: bool = False) -> Packed:
    """Pack the model in ``folder`` into the file ``out``; :func:`unpack` restores every file bit by bit.

    Raises:
        ModelError: If the folder has no safetensors file, or one that is damaged.
        OutputError: If ``out`` cannot be written, or a file of the folder could not be unpacked again.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Name the folder of a model.")
    out = check_file(out, overwrite=overwrite)
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    words = {name: _word(file) if file.suffix == ".safetensors" else 0 for name, file in files.items()}
    if not any(words.values()):
        raise ModelError(f"The folder {folder} has no weights (no .safetensors file).", "Name the folder of a model.")
    if odd := next((name for name in files if _leads_out(name)), None):
        raise OutputError(f"{odd!r} in {folder} is no name that every system can write.", "Rename the file.")
    if linked := next((each for each in folder.rglob("*") if each.is_symlink() and each.is_dir()), None):
        raise OutputError(f"{linked} is a link to a folder, whose files would be left out.", "Put the folder there.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise OutputError(f"{out} lies in the folder that is packed.", "Name a file outside of it.")
    entries: dict[str, dict[str, Any]] = {}
    try:
        with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in files.items():
                digest = hashlib.sha256()
                with file.open("rb") as source, archive.open(f"files/{name}", "w", force_zip64=True) as sink:
                    while piece := source.read(_PIECE):
                        digest.update(piece)
                        sink.write(_encode(piece, words[name]) if words[name] else piece)
                    entries[name] = {"bytes": source.tell(), "sha256": digest.hexdigest(), "word": words[name]}
            with archive.open(_MANIFEST, "w") as sink:
                sink.write(json.dumps({**_FORMAT, "files": entries}, indent=1).encode())
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}", "Make room, or choose another --out.") from error
    return Packed(out, out.stat().st_size, sum(entry["bytes"] for entry in entries.values()))


def unpack(file: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write the folder that was packed into ``file`` to ``out``, every file as it was, bit by bit.

    Raises:
        ModelError: If ``file`` is not an archive of ours, is damaged or cut off, or would write outside of ``out``.
        OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
    """
    with _readable(Path(file)) as archive:
        manifest = json.loads(archive.read(_MANIFEST))
        if {key: manifest[key] for key in _FORMAT} != _FORMAT:
            raise ValueError(f"it is not a {_FORMAT['format']} of version {_FORMAT['version']}")
        for name in manifest["files"]:
            if _leads_out(name):
                raise ModelError(f"{file} would write outside of the output folder: {name!r}.", "Do not trust it.")
        with writing(out, overwrite=overwrite) as partial:
            for name, entry in manifest["files"].items():
                target, digest = partial / name, hashlib.sha256()
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(f"files/{name}") as source, target.open("wb") as sink:
                    for start in range(0, entry["bytes"], _PIECE):
                        count = min(_PIECE, entry["bytes"] - start)
                        piece = _decode(source, count, entry["word"]) if entry["word"] else source.read(count)
                        digest.update(piece)
                        sink.write(piece)
                if digest.hexdigest() != entry["sha256"]:
                    raise ValueError(f"{name} is not what was packed")
    return Path(out).expanduser().resolve()


def _leads_out(name: str) -> bool:
    """Return whether a name can be a place outside of a folder, on one system or another."""
    return bool({"..", "", "/"} & {*PurePosixPath(name).parts}) or "\\" in name or ":" in name


def _word(file: Path) -> int:
    """Return the bytes of the elements that take most of a safetensors file, 2 or 4."""
    sizes: Counter[int] = Counter()
    try:
        for entry in StoredTensors(file).entries.values():
            sizes[2 if entry.dtype in {"F16", "BF16"} else 4] += entry.end - entry.start
    except ConfigError as error:
        raise ModelError(error.problem, "Restore the file; only a sound model is packed.") from error
    return max(sizes, key=sizes.__getitem__, default=4)


def _encode(piece: bytes, word: int) -> bytes:
    """Return bitmask, byte planes, and the bytes that do not fill a word."""
    values = np.frombuffer(piece, dtype=np.dtype(f"u{word}"), count=len(piece) // word)
    keep = values != 0
    planes: bytes = values[keep].view(np.uint8).reshape(-1, word).T.tobytes()
    return np.packbits(keep).tobytes() + planes + piece[values.nbytes :]


def _decode(source: IO[bytes], count: int, word: int) -> bytes:
    """Return the ``count`` bytes that :func:`_encode` was given, from the next bytes of ``source``."""
    words = count // word
    keep = np.unpackbits(np.frombuffer(source.read(-(-words // 8)), dtype=np.uint8), count=words).astype(bool)
    values = np.zeros((words, word), dtype=np.uint8)
    values[keep] = np.frombuffer(source.read(int(keep.sum()) * word), dtype=np.uint8).reshape(word, -1).T
    return values.tobytes() + source.read(count % word)


@contextmanager
def _readable(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; every error that shows that it is damaged, inside the block too, becomes a ModelError."""
    if not file.is_file():
        raise ModelError(f"{file} is not a file.", "Name an archive that `gaprune export --to archive` wrote.")
    damage = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, ValueError, TypeError, RuntimeError)
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except damage as error:
        problem = f"{file} is not an archive that this GAPrune reads, or is damaged or cut off: {error}."
        raise ModelError(problem, "Copy the archive again, or pack the model again.") from error
