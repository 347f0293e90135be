"""Opening a model folder in the runtime that it is made for: PyTorch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gaprune.models.encode import encode
from gaprune.models.exported import ExportedModel
from gaprune.models.formats import Format, format_of
from gaprune.models.load import load_model
from gaprune.models.modes import padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH_SIZE = 32


class Encoder(Protocol):
    """What every runtime can be asked."""

    format: Format
    max_length: int | None

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = _BATCH_SIZE
    ) -> NDArray[np.float32]:
        """Return an embedding ``(texts, dimensions)`` of every text."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""


def open_encoder(
    folder: str | Path, *, threads: int | None = None, device: str | None = None, trust_remote_code: bool = False
) -> Encoder:
    """Open a model folder in its runtime.

    Raises:
        ModelError: If the model cannot be opened.
        MissingExtraError: If its runtime is not installed.
    """
    if format_of(folder) == "torch":
        return TorchModel(load_model(folder, device=device, trust_remote_code=trust_remote_code))
    return ExportedModel(folder, threads=threads)


class TorchModel:
    """A sentence-transformers model as an encoder."""

    format: Format = "torch"

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.max_length = model.max_seq_length

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = _BATCH_SIZE
    ) -> NDArray[np.float32]:
        """Return an embedding ``(texts, dimensions)`` of every text; the model's default prompt for ``None``."""
        return encode(self.model, texts, None, prompt, batch_size=batch_size)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""
        with padded_inputs(self.model):
            mask = self.model.preprocess(list(texts))["attention_mask"]
        return [int(count) for count in mask.sum(dim=1)]
