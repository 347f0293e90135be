"""Sums on disk: a killed measurement continues from them, and those of finished passes leave the memory."""

from __future__ import annotations

import hashlib
import json
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gaprune.errors import ConfigError, OutputError
from gaprune.statistics.sums import LinearStatistics
from gaprune.util.distributed import rank, world_size
from gaprune.util.files import check_parent, locked, write_json
from gaprune.util.progress import say
from gaprune.util.tensor_store import StoredTensors, write_tensors

_FORMAT = "gaprune-statistics-2"

_PLAN = "plan.json"

_SHARE = 20
"""Writing takes at most one part in so many of the time, unless it is asked for after every batch."""

_COUNTS = ("samples", "triplets", "tokens")

_MAKE_ROOM = "Make room, or name another --checkpoint. What was written before is whole: --resume continues with it."
_DELETE = "Delete the file to measure its part again, or choose another --checkpoint."


@dataclass(frozen=True)
class Checkpoint:
    """Where sums are kept, and whether those that are there are used.

    Args:
        folder: Folder that holds them.
        resume: Whether to continue with them. Otherwise it must not hold any of the same data.
        every: Seconds between writing.
        identity: What the numbers depend on beside the options of measuring: the model's weights and modules.
    """

    folder: Path
    resume: bool
    every: float
    identity: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Check that sums can be kept there; call it before the expensive work.

        Raises:
            ConfigError: If there are some and they are not to be resumed.
            OutputError: If the folder cannot be written.
        """
        check_parent(self.folder / _PLAN)
        if not self.resume and any(self.folder.rglob(_PLAN)):
            raise ConfigError(
                f"checkpoint: {self.folder} holds measurements already.",
                "Continue with them (--resume), or choose another --checkpoint.",
            )

    @contextmanager
    def store(self, label: str, origin: Mapping[str, object]) -> Iterator[CheckpointStore]:
        """Give the store of the passes over the data named ``label``; no other run can use it meanwhile.

        Raises:
            ConfigError: If sums are there and are not to be resumed, or cannot be read.
            OutputError: If the folder cannot be written, or another run uses it.
        """
        folder = self.folder / label
        if world_size() > 1:
            folder /= f"process-{rank() + 1}-of-{world_size()}"
        with locked(folder, wait=False):
            yield CheckpointStore(folder, dict(self.identity) | dict(origin), self)


class CheckpointStore:
    """The folder of the passes over one kind of data: ``plan.json``, and sums in ``pass-1.safetensors`` and so on."""

    def __init__(self, folder: Path, origin: Mapping[str, object], checkpoint: Checkpoint) -> None:
        self.folder = folder
        self.origin = json.loads(json.dumps(origin))  # as it will be read again
        self._every = checkpoint.every
        self._plan = folder / _PLAN
        self._written = time.monotonic()
        self._took = 0.0
        self.shape: dict[str, Any] | None = None
        """The shape of the plan that is kept there, if it was made from the same."""
        replace(checkpoint, folder=folder).check()
        if self._plan.exists():
            self._resume()
        elif checkpoint.resume and not any(checkpoint.folder.rglob(_PLAN)):
            say(f"Nothing is kept in {checkpoint.folder} yet: measuring from the start.")

    def _resume(self) -> None:
        try:
            kept = json.loads(self._plan.read_text(encoding="utf-8"))
            origin, shape = kept["origin"], kept["shape"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._plan} cannot be read: {error}", _DELETE) from error
        names = [name for name in {**origin, **self.origin} if origin.get(name) != self.origin.get(name)]
        if names:
            say(f"What is kept in {self.folder} was made with another {', '.join(names)}: measuring from the start.")
        else:
            self.shape = shape

    def begin(self, shape: Mapping[str, Any]) -> None:
        """Start with a plan of this shape; sums of another one are deleted.

        Raises:
            OutputError: If the folder cannot be written.
        """
        if self.shape == shape:
            return
        try:
            for path in self.folder.glob("pass-*.safetensors"):
                path.unlink()
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error}", _MAKE_ROOM) from error
        write_json(self._plan, {"origin": self.origin, "shape": shape})
        self.shape = dict(shape)

    def path(self, index: int) -> Path:
        """Return the file of a pass."""
        return self.folder / f"pass-{index + 1}.safetensors"

    def load(self, index: int) -> tuple[int, Mapping[str, LinearStatistics] | None]:
        """Return how many batches of a pass are kept, the first in this process's order, and their sums if any are.

        Raises:
            ConfigError: If they cannot be read, or belong to another plan.
        """
        path = self.path(index)
        if not path.exists():
            return 0, None
        kept = StatisticsFiles([path])
        metadata = kept.metadata[path]
        if metadata.get("plan") != self._digest:
            raise ConfigError(f"{path} cannot be read: it belongs to another plan.", _DELETE)
        return int(metadata["done"]), kept

    @property
    def _digest(self) -> str:
        content = json.dumps([self.origin, self.shape], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def is_due(self) -> bool:
        """Return whether it is time to write."""
        since = time.monotonic() - self._written
        return since >= self._every and (not self._every or since >= _SHARE * self._took)

    def save(self, index: int, done: int, statistics: Mapping[str, LinearStatistics]) -> None:
        """Write what a pass has measured; the file is replaced when the new one is complete.

        Raises:
            OutputError: If it cannot be written; what was written before remains.
        """
        start = time.monotonic()
        write_statistics(self.path(index), statistics, {"plan": self._digest, "done": str(done)})
        self._written = time.monotonic()
        self._took = self._written - start


class StatisticsFiles(Mapping[str, LinearStatistics]):
    """Statistics in files: those of a linear layer are read from disk when they are asked for, and not kept.

    Args:
        paths: The files.
        devices: Devices of the sums by linear layer; the host if none is named.
        at_end: Called when this object is deleted.

    Raises:
        ConfigError: If a file cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        devices: Mapping[str, torch.device] = MappingProxyType({}),
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._devices = devices
        if at_end is not None:
            weakref.finalize(self, at_end)
        self._layers: dict[str, tuple[StoredTensors, dict[str, Any]]] = {}
        self.metadata: dict[Path, Mapping[str, str]] = {}
        for path in paths:
            stored = StoredTensors(path, kind=_FORMAT, remedy=_DELETE)
            self.metadata[path] = stored.metadata
            for name, said in json.loads(stored.metadata["linear_layers"]).items():
                self._layers[name] = stored, said

    def __getitem__(self, name: str) -> LinearStatistics:
        stored, said = self._layers[name]
        device = self._devices.get(name, torch.device("cpu"))
        tensors = {each: stored[f"{name}:{each}"].to(device) for each in said["tensors"]}
        return LinearStatistics(name, *(said[each] for each in _COUNTS)).with_tensors(tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def write_statistics(
    path: Path, statistics: Mapping[str, LinearStatistics], metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write sums as safetensors; the file is replaced when the new one is complete.

    Raises:
        OutputError: If they cannot be written; a file that is there remains as it is.
    """
    tensors = {f"{name}:{key}": value for name, each in statistics.items() for key, value in each.tensors().items()}
    layers = {
        name: {key: getattr(each, key) for key in _COUNTS} | {"tensors": list(each.tensors())}
        for name, each in statistics.items()
    }
    metadata = {"format": _FORMAT, "linear_layers": json.dumps(layers), **metadata}
    write_tensors(path, tensors, metadata, remedy=_MAKE_ROOM)
