"""The provenance of a model, ``gaprune.json``: typed, versioned, and without paths of the user's machine."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from gaprune.evaluation.quality.index import ParentIndex
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.export.portable import Options, Parent
from gaprune.export.records import Calibration, Export, Method, Prompts, Recovery, Shrink, Sparsity
from gaprune.util.records import SCHEMA, Record, read_record

PROVENANCE_FILE = "gaprune.json"

_PACKAGES = ("gaprune", "torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy")
_version = cache(version)


def versions() -> dict[str, str]:
    """Return the versions of everything that the numbers depend on."""
    return {"python": platform.python_version(), **{package: _version(package) for package in _PACKAGES}}


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Provenance(Record):
    """Everything that made a model.

    Args:
        version: Version of this format, ``schema`` in the file.
        made: When it was pruned; ``None`` if GAPrune did not prune it.
        versions: Versions of the software that pruned it.
        parent: The dense model.
        method: How it was pruned.
        sparsity: How much was removed.
        calibration: Triplets that it was pruned with.
        prompts: Prompts that it was pruned with.
        max_length: Tokens that texts were cut at; ``None`` for the model's own limit.
        recipe: All options of the run.
        recoveries: Every recovery that followed, in order.
        evaluation: Scores by task, if it was evaluated.
        beside: Name of the model whose scores stand as the parent's, if it is not the parent.
        leaks: Sentences about texts it was made with that are in these tasks too, so that their scores are too good.
        shrink: What ``gaprune shrink`` measured, if it made the model.
        export: The export, if this is the folder of one.
    """

    version: int = Field(default=SCHEMA, validation_alias="schema", serialization_alias="schema")
    made: str | None = None
    versions: dict[str, str]
    parent: Parent
    method: Method
    sparsity: Sparsity
    calibration: Calibration = Calibration()
    prompts: Prompts = Prompts()
    max_length: int | None = None
    recipe: Options = Field(default_factory=dict)
    recoveries: tuple[Recovery, ...] = ()
    evaluation: Evaluation | None = None
    beside: str | None = None
    leaks: tuple[str, ...] = ()
    shrink: Shrink | None = None
    export: Export | None = None

    @property
    def parent_index(self) -> ParentIndex | None:
        """Whether the model can search the index of its parent, if that was measured."""
        return None if self.evaluation is None else self.evaluation.parent_index()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json", by_alias=True)

    def seen_from(self, child: Path, folder: str | Path | None) -> Self:
        """Return the provenance for the folder ``child``; ``folder`` is a local parent."""
        return self.model_copy(update={"parent": self.parent.seen_from(child, folder)})

    def write(self, folder: Path) -> None:
        """Write ``gaprune.json`` to ``folder``."""
        (folder / PROVENANCE_FILE).write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> Self | None:
        """Return the provenance of a model folder; ``None`` if there is none because GAPrune did not make it.

        Raises:
            ModelError: If the file cannot be read, or is of another version.
        """
        path = Path(folder) / PROVENANCE_FILE
        if not path.is_file():
            return None
        return read_record(
            cls,
            path,
            damaged="Restore the folder, or delete this file: the model opens without it.",
            older="Use the GAPrune that wrote it, or prune the parent again. The model opens without this file.",
        )
