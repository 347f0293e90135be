"""The file that scores are kept in: a header, and of every matrix its importance and where needed its Gram matrix."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gaprune.errors import ConfigError, MeasurementError
from gaprune.util.tensor_store import StoredTensors, writing_tensors

__all__ = ["Header", "StorageType", "reading", "writing"]

StorageType = Literal["float32", "bfloat16"]

_FORMAT = "gaprune-scores-2"


@dataclass(frozen=True)
class Header:
    """What a scores file says of its scores; the fields are those of :class:`gaprune.pruning.scores.Scores`."""

    criterion: str
    options: Mapping[str, object]
    layers: Mapping[str, int | None]
    origin: Mapping[str, object]


@contextmanager
def writing(
    path: Path, header: Header, shapes: Mapping[str, Sequence[int]], *, with_grams: bool, storage: StorageType
) -> Iterator[Callable[[str, Tensor, Tensor | None], None]]:
    """Write scores matrix by matrix; the file takes its name at the end of the block, when all are there.

    Args:
        path: The file.
        header: What it says of them.
        shapes: ``(out, in)`` of every matrix by its name.
        with_grams: Whether each has a Gram matrix ``(in, in)``.
        storage: Type of the importances; in ``bfloat16`` each matrix is scaled to a maximum of one.

    Yields:
        The function that writes the importance and the Gram matrix of the matrix of a name, in any order.

    Raises:
        OutputError: If the file cannot be written, or the disk has no room for it, which is found before the block.
        SignalError: If a score would become zero in ``bfloat16``.
    """
    layout: dict[str, tuple[torch.dtype, Sequence[int]]] = {}
    for name, shape in shapes.items():
        layout[f"importance.{name}"] = getattr(torch, storage), shape
        if storage == "bfloat16":
            layout[f"scale.{name}"] = torch.float32, ()
        if with_grams:
            layout[f"gram.{name}"] = torch.float32, (shape[1], shape[1])
    metadata = {
        "format": _FORMAT,
        "criterion": header.criterion,
        "options": json.dumps(dict(header.options)),
        "layers": json.dumps(dict(header.layers)),
        "origin": json.dumps(dict(header.origin)),
    }
    remedy = "Make room, or name a file on another disk: --set scores=FILE."
    with writing_tensors(path, layout, metadata, remedy=remedy) as write:

        def put(name: str, values: Tensor, gram: Tensor | None) -> None:
            if storage == "bfloat16":
                scale, values = _scaled(name, values)
                write(f"scale.{name}", scale)
            write(f"importance.{name}", values)
            if gram is not None:
                write(f"gram.{name}", gram)

        yield put


def _scaled(name: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale, and the values over it in bf16."""
    scale = values.abs().max()
    scale = torch.where(scale == 0, 1, scale)
    scaled = (values / scale).bfloat16()
    if int(scaled.count_nonzero()) != int(values.count_nonzero()):
        raise MeasurementError(f"{name}: some scores would become zero in bfloat16.", "Keep the scores in float32.")
    return scale, scaled


def reading(path: Path) -> tuple[Header, Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the header of a scores file, and importances and Gram matrices that are read when they are asked for.

    Raises:
        ConfigError: If the file is missing, broken or no scores file.
    """
    remedy = "Name another file; if this one held scores, delete it, and they are measured again."
    stored = StoredTensors(path, kind=_FORMAT, remedy=remedy)
    try:
        said = stored.metadata
        header = Header(said["criterion"], *(json.loads(said[key]) for key in ("options", "layers", "origin")))
        importances = stored.renamed({name: f"importance.{name}" for name in header.layers})
    except (KeyError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error} is missing or damaged.", remedy) from error
    grams = stored.renamed({name: f"gram.{name}" for name in header.layers if f"gram.{name}" in stored})
    scales = stored.renamed({name: f"scale.{name}" for name in header.layers if f"scale.{name}" in stored})
    return header, _Scaled(importances, scales) if scales else importances, grams


class _Scaled(Mapping[str, Tensor]):
    """Importances that were kept in bf16, each over its scale."""

    def __init__(self, values: Mapping[str, Tensor], scales: Mapping[str, Tensor]) -> None:
        self._values, self._scales = values, scales

    def __getitem__(self, name: str) -> Tensor:
        return self._values[name].float() * float(self._scales[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
