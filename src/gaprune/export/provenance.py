"""The provenance of a model, ``gaprune.json``: typed, versioned, and without paths of the user's machine."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator

from gaprune.errors import ModelError
from gaprune.evaluation.quality.index import ParentIndex
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.export.portable import Options, Parent
from gaprune.export.records import Calibration, Export, Method, Prompts, Recovery, Shrink, Sparsity
from gaprune.util.records import Record

__all__ = ["PROVENANCE_FILE", "SCHEMA", "Provenance", "now", "versions"]

PROVENANCE_FILE = "gaprune.json"

SCHEMA = 2
"""Version of the format of all records; others are refused."""

_PACKAGES = ("gaprune", "torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of everything that the numbers depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}


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
    evaluation: dict[str, Any] | None = None
    shrink: Shrink | None = None
    export: Export | None = None

    @field_validator("evaluation")
    @classmethod
    def _is_readable(cls, found: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            if found is not None:
                Evaluation.from_dict(found)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the scores of an evaluation ({error})") from error
        return found

    @property
    def scores(self) -> Evaluation | None:
        """The evaluation with its methods, if the model was evaluated."""
        return None if self.evaluation is None else Evaluation.from_dict(self.evaluation)

    @property
    def parent_index(self) -> ParentIndex | None:
        """Whether the model can search the index of its parent, if that was measured."""
        found = (self.evaluation or {}).get("parent_index")
        return None if found is None else ParentIndex.model_validate(found)

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
        damaged = "Restore the folder, or delete this file: the model opens without it."
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}", damaged) from error
        if not isinstance(content, dict):
            raise ModelError(f"{path} is not what GAPrune writes.", damaged)
        if content.get("schema") != SCHEMA:
            found = f"has schema {content['schema']!r}" if "schema" in content else "has no schema version"
            raise ModelError(
                f"{path} {found}; this GAPrune reads schema {SCHEMA}.",
                "Use the GAPrune that wrote it, or prune the parent again. The model itself opens without this file.",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ModelError(f"{path} is not what GAPrune writes: {where}: {first['msg']}.", damaged) from error
