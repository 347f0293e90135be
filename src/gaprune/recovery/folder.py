"""The folder of checkpoints: whose they are, and where to go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from gaprune.errors import ConfigError, OutputError
from gaprune.util.files import check_parent, write_json

__all__ = ["check_checkpoints", "clear", "last_checkpoint", "require_same_run"]

_RUN = "recovery.json"
_STATE = "trainer_state.json"


def check_checkpoints(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a run can keep its checkpoints in ``folder``; call it before the expensive work.

    Raises:
        OutputError: If other files or the checkpoints of another run are there, or it cannot be made.
        ConfigError: If a run is to go on and there is none.
    """
    check_parent(folder / _RUN)
    ours = (folder / _RUN).is_file()
    if resume and not ours:
        raise ConfigError(
            f"resume: {folder} holds no checkpoints of a recovery.",
            "Name their folder with --set checkpoint=FOLDER.",
        )
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder} is not empty.", "Name another folder with --set checkpoint=FOLDER."
        )
    if ours and not resume and not overwrite:
        raise OutputError(
            f"{folder} holds checkpoints of a run that was ended.",
            "Go on from them with --resume, or replace them with --overwrite.",
        )


def require_same_run(folder: Path, run: Mapping[str, Any], *, resume: bool) -> None:
    """Refuse to go on with another run than the one whose checkpoints are there, or say whose will be there.

    Raises:
        ConfigError: If something differs; it is named.
    """
    wanted = json.loads(json.dumps(run))
    if not resume:
        clear(folder)
        write_json(folder / _RUN, wanted)
        return
    kept = json.loads((folder / _RUN).read_text(encoding="utf-8"))
    different = [key for key in wanted if kept.get(key) != wanted[key]]
    if different:
        raise ConfigError(
            f"resume: the checkpoints in {folder} are of a run with another {', '.join(different)}.",
            "Give the same options and data, or start anew with --overwrite.",
        )


def clear(folder: Path) -> None:
    """Remove the checkpoints, and the folder where nothing else is in it."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    (folder / _RUN).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def last_checkpoint(folder: Path, processes: int) -> Path | None:
    """Return the last checkpoint in ``folder`` that all processes wrote whole."""
    found = [
        (int(path.name.rpartition("-")[2]), path) for path in folder.glob("checkpoint-*") if _whole(path, processes)
    ]
    return max(found)[1] if found else None


def _whole(path: Path, processes: int) -> bool:
    """Return whether the state is there, which the first process writes last, and what each other process writes."""
    others = [path / f"rng_state_{number}.pth" for number in range(processes)] if processes > 1 else []
    try:
        json.loads((path / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return all(map(is_zipfile, others))
