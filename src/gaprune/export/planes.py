"""The bytes of a safetensors file, split so that zeros cost a bit and what is alike lies together: pure functions.

A tensor of elements of ``s`` bytes becomes a bitmask of the elements that are not zero, and ``s`` planes: all first
bytes of these elements, all second bytes, and so on. Signs and exponents repeat, so their plane compresses, where
whole numbers do not. Zero means that all bits are: ``-0.0`` is a value, and so is every payload of NaN.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layout", "Part", "join", "mask_pays", "split"]

Bytes = NDArray[np.uint8]

_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}
"""Bytes of an element by its type in the header; types of other names are taken byte by byte."""

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Part:
    """One tensor's place in the data: ``bytes`` from ``start``, in elements of ``size`` bytes."""

    name: str
    start: int
    bytes: int
    size: int


@dataclass(frozen=True)
class Layout:
    """How a safetensors file is built: ``head`` bytes of header, then ``parts`` without a gap."""

    head: int
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, content: Bytes) -> Layout:
        """Return the layout of a file from its bytes, or from its first bytes that hold the whole header.

        Raises:
            ValueError, TypeError: If the header is not what safetensors writes.
        """
        length = int.from_bytes(content[:8].tobytes(), "little")
        head = 8 + length
        if len(content) < 8 or len(content) < head:
            raise ValueError("its header is cut off")
        header = json.loads(content[8:head].tobytes())
        if not isinstance(header, dict):
            raise TypeError("its header is no mapping")
        header.pop("__metadata__", None)
        parts = []
        for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
            begin, end = entry["data_offsets"]
            size = _SIZES.get(entry["dtype"], 1)
            parts.append(Part(name, head + begin, end - begin, size if (end - begin) % size == 0 else 1))
        ends = [head, *(part.start + part.bytes for part in parts)]
        if any(part.start != end or part.bytes < 0 for part, end in zip(parts, ends, strict=False)):
            raise ValueError("its tensors do not follow each other without gaps")
        return cls(head, tuple(parts))

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return self.parts[-1].start + self.parts[-1].bytes if self.parts else self.head


def mask_pays(content: Bytes, size: int) -> bool:
    """Return whether a bit for every element costs less than the zero elements of ``size`` bytes do."""
    elements = len(content) // size
    zeros = elements - int(np.count_nonzero(_elements(content, size)))
    return zeros * size * 8 > elements


def split(content: Bytes, size: int, *, masked: bool) -> tuple[bytes, list[bytes]]:
    """Return the bitmask of the elements that are not zero (empty unless ``masked``) and the byte planes."""
    rows = content.reshape(-1, size)
    mask = b""
    if masked:
        keep = _elements(content, size) != 0
        mask = np.packbits(keep).tobytes()
        rows = rows[keep]
    return mask, [rows[:, plane].tobytes() for plane in range(size)]


def join(mask: Bytes | None, planes: list[Bytes], elements: int) -> Bytes:
    """Return the bytes that :func:`split` took apart; without a ``mask`` every element has its bytes in ``planes``."""
    rows = np.stack(planes, axis=1)
    if mask is None:
        return rows.reshape(-1)
    whole = np.zeros((elements, len(planes)), dtype=np.uint8)
    whole[np.unpackbits(mask, count=elements).astype(bool)] = rows
    return whole.reshape(-1)


def _elements(content: Bytes, size: int) -> NDArray[np.unsignedinteger]:
    return np.ascontiguousarray(content).view(_UNSIGNED[size])
