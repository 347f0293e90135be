"""Tensors on disk, written and read one at a time: safetensors files that need not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import disk_usage

import torch
from torch import Tensor

from gaprune.errors import ConfigError, OutputError
from gaprune.util.files import replacing

__all__ = ["Layout", "StoredTensors", "writing_tensors"]

Layout = Mapping[str, tuple[torch.dtype, Sequence[int]]]
"""Type and shape of every tensor of a file by its name, in the order of the file."""

_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}
"""What the format calls the types that we write."""


@contextmanager
def writing_tensors(
    path: Path, layout: Layout, metadata: Mapping[str, str]
) -> Iterator[Callable[[str, Tensor], None]]:
    """Write a safetensors file tensor by tensor; it takes its name at the end of the block, when all are there.

    Args:
        path: The file.
        layout: What will be written, in fp32 or bf16.
        metadata: Texts for the file's header.

    Yields:
        The function that writes the tensor of a name, in any order; it keeps nothing of it.

    Raises:
        OutputError: If the file cannot be written, or the disk has no room for it, which is found before the block.
    """
    head, starts, size = _head(layout, metadata)
    missing = dict(layout)
    with ExitStack() as stack:
        with _explained(path):
            partial = stack.enter_context(replacing(path))
            file = stack.enter_context(partial.open("wb"))
            file.write(head)
            _need_room(path, size)

        def write(name: str, tensor: Tensor) -> None:
            dtype, shape = missing.pop(name)
            if tensor.dtype != dtype or tensor.shape != torch.Size(shape):
                raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {tuple(shape)}")
            content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            with _explained(path):
                file.seek(starts[name])
                file.write(content.data)

        yield write
        if missing:
            raise ValueError(f"{path} was to hold {', '.join(missing)} too")
        with _explained(path):
            stack.close()


def _head(layout: Layout, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int], int]:
    """Return what comes before the tensors in a file, where each of them starts, and the size of the whole."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    starts, end = {}, 0
    for name, (dtype, shape) in layout.items():
        starts[name], end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": _TYPES[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + start for name, start in starts.items()}, len(head) + end


def _need_room(path: Path, size: int) -> None:
    free = disk_usage(path.parent).free
    if free < size:
        raise OutputError(
            f"{path} cannot be written: it takes {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} are free there.",
            "Make room, or name a file on another disk: --scores FILE.",
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error}", "Make room, or name a file in a folder you can write to."
        ) from error


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a safetensors file, read when they are asked for and not kept.

    Each is read by itself: a file that is larger than memory cannot always be mapped as a whole.

    Args:
        path: The file, as :func:`writing_tensors` wrote it; it must stay as it is.
        keys: Names in the file by the names to ask for.
        scales: What the tensors of these names are multiplied by.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], scales: Mapping[str, float]) -> None:
        self._path = path
        self._keys = dict(keys)
        self._scales = dict(scales)

    def __getitem__(self, name: str) -> Tensor:
        key = self._keys[name]
        try:
            values = _read(self._path, key).float()
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{self._path} can no longer be read: {error}", "Leave it alone during a run."
            ) from error
        return values * self._scales[name] if name in self._scales else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _read(path: Path, key: str) -> Tensor:
    """Return one tensor of a file, and read no other."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise EOFError("it is no safetensors file")
        entry = json.loads(file.read(length))[key]
        dtypes = {said: dtype for dtype, said in _TYPES.items()}
        values = torch.empty(entry["shape"], dtype=dtypes[entry["dtype"]])
        file.seek(8 + length + entry["data_offsets"][0])
        if file.readinto(values.view(-1).view(torch.uint8).numpy().data) != values.nbytes:
            raise EOFError(f"{key} is cut short")
    return values
