"""Safetensors files that need not fit into memory: written tensor by tensor, and read tensor by tensor.

The safetensors library writes a file from tensors that are all in memory, and maps a file that it reads as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from gaprune.errors import ConfigError, OutputError
from gaprune.util.files import replacing

Layout = Mapping[str, tuple[torch.dtype, Sequence[int]]]
"""Type and shape of every tensor of a file by its name, in the order of the file."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_ROOM = "Make room, or name a file in a folder that you can write to."


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, remedy: str = _ROOM
) -> None:
    """Write tensors that are in memory, as :func:`writing_tensors` does."""
    layout = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    with writing_tensors(path, layout, metadata or {}, remedy=remedy) as write:
        for name, tensor in tensors.items():
            write(name, tensor)


@contextmanager
def writing_tensors(
    path: Path, layout: Layout, metadata: Mapping[str, str], *, remedy: str = _ROOM
) -> Iterator[Callable[[str, Tensor], None]]:
    """Write a safetensors file tensor by tensor; it replaces ``path`` at the end of the block, when it is complete.

    Args:
        path: The file.
        layout: Type and shape of what will be written.
        metadata: Texts for the header of the file.
        remedy: What a user can do if the file cannot be written.

    Yields:
        The function that writes the tensor of a name, in any order; it keeps no reference to the tensor.

    Raises:
        OutputError: If the file cannot be written, or the disk has too little room, which is found before the block.
    """
    head, starts, size = _head(layout, metadata)
    missing = dict(layout)
    with ExitStack() as stack:
        with _explained(path, remedy):
            partial = stack.enter_context(replacing(path))
            file = stack.enter_context(partial.open("wb"))
            file.write(head)
        free = disk_usage(path.parent).free
        if free < size:
            raise OutputError(
                f"{path} cannot be written: it takes {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} are free there.",
                remedy,
            )

        def write(name: str, tensor: Tensor) -> None:
            dtype, shape = missing.pop(name)
            if tensor.dtype != dtype or tensor.shape != torch.Size(shape):
                raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {tuple(shape)}")
            content = _bytes(tensor.detach().cpu().contiguous())
            with _explained(path, remedy):
                file.seek(starts[name])
                file.write(content)

        yield write
        if missing:
            raise ValueError(f"these tensors of {path} were not written: {', '.join(missing)}")
        with _explained(path, remedy):
            stack.close()


def _head(layout: Layout, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int], int]:
    """Return what precedes the tensors in a file, where each of them starts, and the size of the whole."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    starts, end = {}, 0
    for name, (dtype, shape) in layout.items():
        starts[name], end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + start for name, start in starts.items()}, len(head) + end


def _bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the host."""
    content: memoryview = tensor.flatten().view(torch.uint8).numpy().data
    return content


@contextmanager
def _explained(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}", remedy) from error


@dataclass(frozen=True)
class Entry:
    """What the header of a file says of one tensor: type, shape, and where its bytes start and end in the file."""

    dtype: str
    shape: torch.Size
    start: int
    end: int


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a safetensors file: each is read from disk when it is asked for, and is not kept.

    ``path``, ``metadata`` and ``entries`` say where they lie, what the header says, and what each tensor is.

    Args:
        path: The file; it must not change while it is used.
        kind: What the metadata must name as ``format``, if anything.
        remedy: What a user can do if the file cannot be read.

    Raises:
        ConfigError: If the file cannot be read, or is of another kind.
    """

    def __init__(
        self, path: Path, *, kind: str | None = None, remedy: str = "Delete the file, or name another one."
    ) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.metadata, self.entries = _header(file)
                self._state = _state(file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", remedy) from error
        if kind is not None and self.metadata.get("format") != kind:
            raise ConfigError(f"{path} cannot be read: its format is not {kind}.", remedy)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes by name, known without reading a tensor."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def renamed(self, keys: Mapping[str, str]) -> Self:
        """Return the tensors with the names ``keys.values()`` in the file under the names ``keys``.

        Raises:
            KeyError: If the file has no tensor of one of these names.
        """
        view = copy(self)
        view.entries = {name: self.entries[key] for name, key in keys.items()}
        return view

    def __getitem__(self, name: str) -> Tensor:
        entry = self.entries[name]
        values = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
        try:
            with self.path.open("rb") as file:
                same = _state(file) == self._state
                file.seek(entry.start)
                read = file.readinto(_bytes(values))
        except OSError as error:
            raise self._changed(error) from error
        if not same or read != values.nbytes:
            raise self._changed("it was changed.")
        return values

    def _changed(self, error: object) -> ConfigError:
        return ConfigError(f"{self.path} can no longer be read: {error}", "Do not change the file during a run.")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _header(file: BinaryIO) -> tuple[dict[str, str], dict[str, Entry]]:
    """Return the metadata and the entries of an open file, checked against its size."""
    size = os.fstat(file.fileno()).st_size
    start = 8 + int.from_bytes(file.read(8), "little")
    if size < 8 or start > size:
        raise ValueError("it is not a safetensors file, or its header is cut off")
    try:
        content: dict[str, Any] = json.loads(file.read(start - 8))
        metadata = dict(content.pop("__metadata__", {}))
        entries = {
            name: Entry(
                each["dtype"], torch.Size(each["shape"]), *(start + int(offset) for offset in each["data_offsets"])
            )
            for name, each in content.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is not a safetensors file: {error!r}") from error
    if max((entry.end for entry in entries.values()), default=start) != size:
        raise ValueError("its size is not what its header says")
    for name, entry in entries.items():
        dtype = _DTYPES.get(entry.dtype)
        fits = dtype is None or entry.end - entry.start == prod(entry.shape) * dtype.itemsize
        if entry.start < start or not fits:
            raise ValueError(f"the size of {name} does not fit its shape")
    return metadata, entries


def _state(file: BinaryIO) -> tuple[int, int, int]:
    """Return what tells whether a file is still the same."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of tensors by name; a mapping that knows its ``shapes`` need not read the tensors."""
    known: dict[str, torch.Size] | None = getattr(tensors, "shapes", None)
    return {name: tensor.shape for name, tensor in tensors.items()} if known is None else known
