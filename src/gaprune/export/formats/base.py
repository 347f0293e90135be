"""The interface of every format that a model can be exported to, and the registry of the formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gaprune.errors import ConfigError, suggest
from gaprune.export.readers import Reader
from gaprune.models.checks import check_adapter
from gaprune.models.load import load_model
from gaprune.util.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Request:
    """What an export was asked for.

    Args:
        folder: Folder of the model.
        int8: Whether the model is quantised to int8.
        weights_only: Whether the weights alone are.
        parent: Folder or hub id of the model's parent, if it is named.
        reader: The program that the export is made for, if one is named.
        trust_remote_code: Whether code that comes with the models may run.
        force: Whether the export is written although its embeddings are too far, or its parent is another.
    """

    folder: Path
    int8: bool = False
    weights_only: bool = False
    parent: str | Path | None = None
    reader: Reader | None = None
    trust_remote_code: bool = False
    force: bool = False

    def load(self, name: str | Path, **options: Any) -> SentenceTransformer:
        """Load a model on the CPU, refusing one that carries an adapter.

        Raises:
            ModelError: If it does, or cannot be loaded.
        """
        model = load_model(name, device="cpu", trust_remote_code=self.trust_remote_code, **options)
        check_adapter(model)
        return model


class ExportFormat(ABC):
    """A format that a model can be exported to; an instance belongs to one export.

    To add one, write a class in a module of this folder and decorate it with
    :func:`gaprune.export.formats.base.register`. The pipeline calls the methods in the order in which they stand
    here; then it holds the embeddings against a floor, and writes card and provenance.
    """

    name: ClassVar[str]
    """The value of ``to``."""
    runtime: ClassVar[str]
    """What runs or reads the result, in words."""
    has_int8: ClassVar[bool] = False
    """Whether there is an int8 form."""
    has_parent: ClassVar[bool] = False
    """Whether the parent becomes a part of it."""
    runs_here: ClassVar[bool] = True
    """Whether the result can be run, and its embeddings be compared, without programs from elsewhere."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def check(self) -> None:
        """Check options and installed packages, before the model is loaded.

        Raises:
            ConfigError: If an option has no meaning for this format.
            MissingExtraError: If a package is missing.
        """
        if self.request.weights_only and not self.request.int8:
            raise ConfigError("weights_only: this says how to quantise to int8.", "Add int8, or leave it out.")
        if self.request.int8 and not self.has_int8:
            raise ConfigError(f"int8: the format {self.name} has no int8 form.", "Leave int8 out.")
        if self.request.parent is not None and not self.has_parent:
            raise ConfigError(f"parent: the format {self.name} does not contain it.", "Leave it out.")

    def check_model(self, model: SentenceTransformer) -> None:  # noqa: B027 (most formats refuse nothing)
        """Refuse a model that this format cannot express.

        Raises:
            ModelError: If there is something in the model that would be lost.
        """

    @abstractmethod
    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:
        """Write everything but card and provenance, and return the form of the weights in words, such as ``fp32``.

        Args:
            model: The model, in fp32 on the CPU.
            folder: An empty folder.
            texts: Texts, with their prompts, to calibrate a quantisation on. The result is not compared on these.
        """

    @abstractmethod
    def embeddings(
        self, model: SentenceTransformer, folder: Path, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the embeddings ``(texts, dimensions)`` by the export and by the model; the texts have their prompts.

        A model with several routes gives those of each, one below the other.
        ``None`` if nothing here can run the export; then it is not compared.
        """

    @abstractmethod
    def usage(self) -> str:
        """Return the part of the card that says how to open the export, in Markdown."""


_formats = Registry[ExportFormat](__name__.rpartition(".")[0])
register = _formats.register


def available() -> dict[str, type[ExportFormat]]:
    """Return every registered class by its name, in alphabetical order."""
    return {kind.name: kind for kind in sorted(_formats.available(), key=lambda kind: kind.name)}


def format_named(name: str | None) -> type[ExportFormat]:
    """Return the class registered under ``name``.

    Raises:
        ConfigError: If there is none.
    """
    known = available()
    if name is None:
        raise ConfigError(
            "to: no format is named.", f"Use {', '.join(known)}, --to archive (gaprune.pack) or --for (reader)."
        )
    if name == "archive":
        raise ConfigError("to: an archive is no model that runs.", "Use gaprune.pack(folder, out), or --to archive.")
    if name not in known:
        raise ConfigError(
            f"to: {name!r} is not a format.{suggest(name, [*known, 'archive'])}",
            f"Use {', '.join(known)}, or --to archive (gaprune.pack).",
        )
    return known[name]
