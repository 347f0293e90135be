"""What has been measured, kept on disk while it goes on: a killed run continues, and a finished pass is used again."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gaprune.errors import ConfigError, GapruneError, OutputError
from gaprune.statistics.sums import LinearStatistics
from gaprune.util.distributed import rank, world_size
from gaprune.util.files import check_parent, replacing, write_json
from gaprune.util.progress import say

__all__ = ["Checkpoint", "CheckpointStore", "DiskCache", "PassState", "StoredStatistics"]

_FORMAT = "gaprune-signals-1"

_PLAN = "plan.json"

_SHARE = 20
"""Writing takes at most one part in so many of the time, unless it is asked for after every batch."""

_COUNTS = ("samples", "triplets", "tokens")


@dataclass(frozen=True)
class Checkpoint:
    """Where measurements are kept, and whether those that are there are used.

    Args:
        folder: Folder that holds them.
        resume: Whether to continue with what it holds; without, it must hold nothing of the same data.
        every: Seconds between writing.
        identity: What the numbers depend on beside the options of measuring: the model's weights and modules.
    """

    folder: Path
    resume: bool
    every: float
    identity: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Check that measurements can be kept there; call it before the expensive work.

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

    def shelf(self, label: str, origin: Mapping[str, object]) -> CheckpointStore:
        """Return where the passes over the data named ``label`` are kept.

        Args:
            label: Name of the data.
            origin: All options that the numbers depend on.

        Raises:
            ConfigError: If something is kept there and is not to be resumed, or it cannot be read.
            OutputError: If the folder cannot be written.
        """
        mine = f"process-{rank() + 1}-of-{world_size()}" if world_size() > 1 else ""
        return CheckpointStore(self.folder / label / mine, dict(self.identity) | dict(origin), self)


@dataclass
class PassState:
    """What one pass has measured so far.

    Args:
        done: Batches that are in the sums; they are the first in this process's order.
        signals: The sums by name of the matrix.
    """

    done: int
    statistics: Mapping[str, LinearStatistics]


class CheckpointStore:
    """The folder of the passes over one kind of data: ``plan.json``, and sums in ``pass-1.safetensors`` and so on.

    Args:
        folder: The folder.
        origin: All that the numbers depend on.
        checkpoint: How it is written and whether it is read.
    """

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
        elif checkpoint.resume:
            say(f"Nothing is kept in {folder} yet: measuring from the start.")

    def _resume(self) -> None:
        try:
            kept = json.loads(self._plan.read_text(encoding="utf-8"))
            origin, shape = kept["origin"], kept["shape"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(self._plan, error) from error
        names = [name for name in {**origin, **self.origin} if origin.get(name) != self.origin.get(name)]
        if names:
            say(f"What is kept in {self.folder} was made with another {', '.join(names)}: measuring from the start.")
        else:
            self.shape = shape

    def begin(self, shape: Mapping[str, Any]) -> None:
        """Start with a plan of this shape; sums of another are of no use and go.

        Raises:
            OutputError: If the folder cannot be written.
        """
        if self.shape == shape:
            return
        try:
            for path in self.folder.glob("pass-*.safetensors"):
                path.unlink()
        except OSError as error:
            raise _full(self._plan, error) from error
        write_json(self._plan, {"origin": self.origin, "shape": shape})
        self.shape = dict(shape)

    def path(self, index: int) -> Path:
        """Return the file of a pass."""
        return self.folder / f"pass-{index + 1}.safetensors"

    def load(self, index: int) -> PassState | None:
        """Return what is kept of a pass, ``None`` if nothing is.

        Raises:
            ConfigError: If it cannot be read, or belongs to another plan.
        """
        path = self.path(index)
        if not path.exists():
            return None
        stored = StoredStatistics([path])
        if stored.headers[path].get("plan") != self._digest:
            raise _unreadable(path, "it belongs to another plan")
        return PassState(int(stored.headers[path]["done"]), stored)

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
            OutputError: If it cannot be written; what was written before stays.
        """
        start = time.monotonic()
        _write(self.path(index), statistics, {"plan": self._digest, "done": str(done)})
        self._written = time.monotonic()
        self._took = self._written - start


class StoredStatistics(Mapping[str, LinearStatistics]):
    """Signals in files, read matrix by matrix when they are asked for, and not kept.

    Args:
        paths: The files.
        owner: Whose files they are, kept as long as this is.
        devices: Where the sums of a matrix go; to the host where none is named.

    Raises:
        ConfigError: If a file cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        owner: DiskCache | None = None,
        devices: Mapping[str, torch.device] = MappingProxyType({}),
    ) -> None:
        self._devices = devices
        self._owner = owner
        self._paths: dict[str, Path] = {}
        self._counts: dict[str, dict[str, Any]] = {}
        self.headers: dict[Path, dict[str, str]] = {}
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise _unreadable(path, "it holds no signals of this version")
                linear_layers = json.loads(header["matrices"])
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                raise _unreadable(path, error) from error
            self.headers[path] = header
            self._counts |= linear_layers
            self._paths |= dict.fromkeys(linear_layers, path)

    def __getitem__(self, name: str) -> LinearStatistics:
        counts, device = self._counts[name], str(self._devices.get(name, "cpu"))
        try:
            with safe_open(self._paths[name], framework="pt") as file:
                sums = {each: file.get_tensor(f"{name}:{each}").clone().to(device) for each in counts["sums"]}
        except (OSError, SafetensorError) as error:
            raise _unreadable(self._paths[name], error) from error
        return LinearStatistics(name, **{each: counts[each] for each in _COUNTS}, **sums)

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)


class DiskCache:
    """Signals of finished passes in a temporary folder, which goes when nobody looks at them any more."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gaprune-signals-"))
        weakref.finalize(self, shutil.rmtree, self._folder)
        self.paths: list[Path] = []

    def keep(self, statistics: Mapping[str, LinearStatistics]) -> None:
        """Write the signals of one pass.

        Raises:
            OutputError: If they cannot be written.
        """
        path = self._folder / f"{len(self.paths)}.safetensors"
        _write(path, statistics, {})
        self.paths.append(path)


def _write(path: Path, statistics: Mapping[str, LinearStatistics], header: Mapping[str, str]) -> None:
    """Write signals as safetensors, moved into place when complete.

    Raises:
        OutputError: If they cannot be written; a file that is there stays as it is.
    """
    tensors: dict[str, Tensor] = {}
    linear_layers: dict[str, dict[str, Any]] = {}
    for name, each in statistics.items():
        sums = each.sums()
        tensors |= {f"{name}:{key}": total.detach().cpu().contiguous() for key, total in sums.items()}
        linear_layers[name] = {key: getattr(each, key) for key in _COUNTS} | {"sums": list(sums)}
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={"format": _FORMAT, "matrices": json.dumps(linear_layers), **header})
    except (OSError, SafetensorError) as error:
        raise _full(path, error) from error


def _full(path: Path, error: object) -> OutputError:
    return OutputError(
        f"Measurements cannot be kept in {path}: {error}",
        "Make room or name another --checkpoint; what was written before is whole, and --resume continues with it.",
    )


def _unreadable(path: Path, error: object) -> GapruneError:
    return ConfigError(
        f"The measurements kept in {path} cannot be read: {error}",
        "Delete the file to measure its part again, or choose another --checkpoint.",
    )
