"""Stages of a long run, each kept in a folder when it is finished, so that a run that was killed continues there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gaprune.errors import OutputError
from gaprune.util.files import temporary_beside, write_json
from gaprune.util.progress import say, stage
from gaprune.util.records import SCHEMA

_STAGE_FILE = "stage.json"

_QUICK = 60.0
"""Seconds of a run that has cost nothing worth keeping."""


class Stages:
    """The finished stages of one run, in the order in which they are asked for.

    A stage is made again if its inputs differ, if its records are of another version, or if a stage before it was made
    again.

    Args:
        folder: Folder that holds one folder for each stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = f"schema {SCHEMA}"
        self._is_new, self._began = not folder.exists(), time.monotonic()

    def once(self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return the folder of a stage; ``make`` fills it, unless an earlier run finished it with the same inputs.

        Raises:
            OutputError: If the folder cannot be written.
        """
        self._key = self._key_of(name, inputs)
        place = self.folder / name
        if _read(place).get("key") == self._key:
            say(f"The stage {name!r} was finished by an earlier run: {place}.")
            return place
        began = time.monotonic()
        try:
            with stage(f"Stage {name!r}"), temporary_beside(place) as partial:
                partial.mkdir()
                make(partial)
                minutes = (time.monotonic() - began) / 60
                write_json(partial / _STAGE_FILE, {"key": self._key, "minutes": minutes})
                if place.exists():
                    shutil.rmtree(place)
                partial.rename(place)
        except OSError as error:
            raise OutputError(
                f"The stage {name!r} cannot be written to {self.folder}: {error}",
                "Make room and start the same command again; finished stages are kept.",
            ) from error
        finally:
            with suppress(OSError):  # it holds other stages
                self.folder.rmdir()
        return place

    def has(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Return whether an earlier run finished the next stage with these inputs."""
        return _read(self.folder / name).get("key") == self._key_of(name, inputs)

    def scratch(self, name: str, inputs: Mapping[str, Any]) -> Path:
        """Return a folder for the state of a stage that is under way; it need not exist.

        It is another one if the inputs or a stage before it differ.
        """
        return self.folder / f"{name}-{self._key_of(name, inputs)[:12]}"

    def _key_of(self, name: str, inputs: Mapping[str, Any]) -> str:
        content = json.dumps([self._key, name, inputs], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def minutes(self, *names: str) -> float:
        """Return how many minutes finished stages took together, in whichever run they were made."""
        return sum(float(_read(self.folder / name)["minutes"]) for name in names)

    def discard(self) -> None:
        """Delete all stages of a run that was refused, unless an earlier run began them or they took a minute."""
        if self._is_new and time.monotonic() - self._began < _QUICK:
            self.remove()

    def remove(self) -> None:
        """Delete all stages, when what the run was for is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(place: Path) -> dict[str, Any]:
    file = place / _STAGE_FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def fingerprint_of(source: str | Path) -> str:
    """Return a SHA-256 of a file, or of all files of a folder and their names; a hub id stands for itself."""
    path = Path(source).expanduser()
    if not path.exists():
        return str(source)
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        total.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
