"""The file that scores are kept in: for every linear layer its importance, and second moments if they are used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gaprune.errors import ConfigError
from gaprune.util.tensor_store import StoredTensors, writing_tensors

_FORMAT = "gaprune-scores-3"


@dataclass(frozen=True)
class Header:
    """What a scores file says of its scores; the fields are those of :class:`gaprune.pruning.scores.Scores`."""

    criterion: str
    options: Mapping[str, object]
    layers: Mapping[str, int | None]
    origin: Mapping[str, object]


@contextmanager
def writing(
    path: Path, header: Header, shapes: Mapping[str, Sequence[int]], *, with_second_moments: bool
) -> Iterator[Callable[[str, Tensor, Tensor | None], None]]:
    """Write scores layer by layer; the file takes its name at the end of the block, when it is complete.

    Args:
        path: The file.
        header: What it says of the scores.
        shapes: ``(out, in)`` of every linear layer by name.
        with_second_moments: Whether each has second moments ``(in, in)``.

    Yields:
        The function that writes importance and second moments of the layer of a name, in any order.

    Raises:
        OutputError: If the file cannot be written, or the disk has too little room, which is found before the block.
    """
    layout: dict[str, tuple[torch.dtype, Sequence[int]]] = {}
    for name, shape in shapes.items():
        layout[f"importance.{name}"] = torch.float32, shape
        if with_second_moments:
            layout[f"second_moments.{name}"] = torch.float32, (shape[1], shape[1])
    metadata = {
        "format": _FORMAT,
        "criterion": header.criterion,
        "options": json.dumps(dict(header.options)),
        "layers": json.dumps(dict(header.layers)),
        "origin": json.dumps(dict(header.origin)),
    }
    remedy = "Make room, or name a file on another disk: --scores FILE."
    with writing_tensors(path, layout, metadata, remedy=remedy) as write:

        def put(name: str, importance: Tensor, second_moments: Tensor | None) -> None:
            write(f"importance.{name}", importance)
            if second_moments is not None:
                write(f"second_moments.{name}", second_moments)

        yield put


def reading(path: Path) -> tuple[Header, Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the header of a scores file, and importances and second moments that are read when they are asked for.

    Raises:
        ConfigError: If the file is missing, damaged or not a scores file.
    """
    remedy = "Name another file; if this one held scores, delete it, and they are measured again."
    stored = StoredTensors(path, kind=_FORMAT, remedy=remedy)
    try:
        said = stored.metadata
        header = Header(said["criterion"], *(json.loads(said[key]) for key in ("options", "layers", "origin")))
        importances = stored.renamed({name: f"importance.{name}" for name in header.layers})
    except (KeyError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error} is missing or damaged.", remedy) from error
    keys = {name: f"second_moments.{name}" for name in header.layers}
    return header, importances, stored.renamed({name: key for name, key in keys.items() if key in stored})
