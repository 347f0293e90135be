"""The folder of checkpoints: which run they belong to, and where that run continues."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from gaprune.errors import ConfigError, OutputError
from gaprune.util.files import check_parent, write_json

_RUN = "recovery.json"
_STATE = "trainer_state.json"
_STAGES = ("texts", "triplets")


@dataclass(frozen=True)
class Checkpoints:
    """Where a recovery keeps its checkpoints.

    Args:
        folder: The folder.
        resumable: Whether they hold the optimiser's state too, so that a run can continue from them.
        resume: Whether this run continues from the last one.
    """

    folder: Path
    resumable: bool = False
    resume: bool = False

    @property
    def unfinished(self) -> bool:
        """Whether a run that did not finish left checkpoints here."""
        return (self.folder / _RUN).is_file()

    def check(self, *, overwrite: bool) -> None:
        """Check that a run can keep its checkpoints here; call it before the expensive work.

        Raises:
            OutputError: If other files or the checkpoints of another run are here, or the folder cannot be made.
            ConfigError: If a run is to continue and there is no checkpoint.
        """
        folder, ours = self.folder, self.unfinished
        check_parent(folder / _RUN)
        if self.resume and not ours:
            raise ConfigError(
                f"resume: {folder} holds no checkpoints of a recovery.",
                "Name their folder with --set checkpoint=FOLDER.",
            )
        if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} is not empty.", "Name another folder with --set checkpoint=FOLDER.")
        if ours and not self.resume and not overwrite:
            raise OutputError(
                f"{folder} holds checkpoints of a run that did not finish.",
                "Continue from them with --resume, or replace them with --overwrite.",
            )

    def claim(self, run: Mapping[str, Any]) -> None:
        """Note which run the checkpoints belong to, or check that it is this one if it continues.

        Raises:
            ConfigError: If they belong to another run; what differs is named.
        """
        wanted = json.loads(json.dumps(run))
        if not self.resume:
            self.clear()
            write_json(self.folder / _RUN, wanted)
            return
        kept = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))
        different = [key for key in wanted if kept.get(key) != wanted[key]]
        if different:
            raise ConfigError(
                f"resume: the checkpoints in {self.folder} belong to a run with different {', '.join(different)}.",
                "Give the same options and data, or start again with --overwrite.",
            )

    def of(self, stage: str) -> Checkpoints:
        """Return those of a stage of the run."""
        return replace(self, folder=self.folder / stage)

    def kept(self, key: str) -> Any:
        """Return what the run noted under ``key``; ``None`` if this run does not continue another."""
        if not self.resume:
            return None
        return json.loads((self.folder / _RUN).read_text(encoding="utf-8")).get(key)

    def clear(self) -> None:
        """Remove the checkpoints, and the folder if nothing else is in it."""
        for path in (*self.folder.glob("*/checkpoint-*"), *self.folder.glob("checkpoint-*")):
            shutil.rmtree(path)
        for stage in _STAGES:
            if (self.folder / stage).is_dir() and not any((self.folder / stage).iterdir()):
                (self.folder / stage).rmdir()
        (self.folder / _RUN).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def last(self, processes: int) -> Path | None:
        """Return the last checkpoint that all processes have written completely, if this run continues."""
        complete = [path for path in self.folder.glob("checkpoint-*") if _is_complete(path, processes)]
        return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None) if self.resume else None


def _is_complete(path: Path, processes: int) -> bool:
    """Return whether the state, which the first process writes last, and the part of every process are there."""
    parts = [path / f"rng_state_{number}.pth" for number in range(processes)] if processes > 1 else []
    try:
        json.loads((path / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(map(is_zipfile, parts))
