"""Stages of a long run, each kept in a folder when it is finished, so that a run that was killed continues there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gaprune.errors import OutputError
from gaprune.util.files import temporary_beside, write_json
from gaprune.util.progress import say

__all__ = ["Stages"]

_STAGE_FILE = "stage.json"


class Stages:
    """The finished stages of one run, in the order in which they are asked for.

    A stage is made again if its inputs differ, or if a stage before it was made again.

    Args:
        folder: Folder that holds one folder for each stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ""

    def once(self, name: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return the folder of a stage; ``make`` fills it, unless an earlier run finished it with the same inputs.

        Raises:
            OutputError: If the folder cannot be written.
        """
        content = json.dumps([self._key, name, inputs], sort_keys=True, default=str)
        self._key = hashlib.sha256(content.encode()).hexdigest()
        place = self.folder / name
        if _key_of(place) == self._key:
            say(f"The stage {name!r} was finished by an earlier run: {place}.")
            return place
        try:
            with temporary_beside(place) as partial:
                partial.mkdir()
                make(partial)
                write_json(partial / _STAGE_FILE, {"key": self._key, "inputs": json.loads(content)[2]})
                if place.exists():
                    shutil.rmtree(place)
                partial.rename(place)
        except OSError as error:
            raise OutputError(
                f"The stage {name!r} cannot be written to {self.folder}: {error}",
                "Make room and start the same command again; finished stages are kept.",
            ) from error
        return place

    def remove(self) -> None:
        """Delete all stages, when what the run was for is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _key_of(place: Path) -> str | None:
    file = place / _STAGE_FILE
    return json.loads(file.read_text(encoding="utf-8"))["key"] if file.is_file() else None
