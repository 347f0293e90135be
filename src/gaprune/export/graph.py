"""A sentence-transformers model as one ONNX graph."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Router
from torch import Tensor, nn

from gaprune.errors import ModelError
from gaprune.util.progress import stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

OUTPUTS = ("last_hidden_state", "sentence_embedding", "document_embedding")
"""Names of the outputs: token embeddings, as optimum reads them, sentence embeddings (of queries, if a Router tells
them from documents), and those of documents."""

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_LARGE = 1 << 30
"""Weights of more bytes are written to a file beside the ONNX graph, which cannot exceed 2 GiB."""
_EXAMPLE = ("two texts of different length", "are traced, so that the graph knows which dimensions may vary")


class _Whole(nn.Module):
    """All modules of a model as a function from tokens to token and sentence embeddings."""

    def __init__(self, model: SentenceTransformer, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(model)
        self.inputs = inputs

    def forward(self, *tokens: Tensor) -> tuple[Tensor, ...]:
        """Return token embeddings ``(texts, tokens, width)``, then sentence embeddings ``(texts, dimensions)``.

        There is one of the latter for each route of a Router; what comes before it runs once.
        """
        shared: dict[str, Any] = dict(zip(self.inputs, tokens, strict=True))
        start = next((place for place, part in enumerate(self.parts) if isinstance(part, Router)), len(self.parts))
        for part in self.parts[:start]:
            shared = part(shared)
        found = []
        for task in routes_of(self.parts):
            features = shared if task is None else {**shared, "task": task}
            for part in self.parts[start:]:
                features = part(features)
            found.append(features["sentence_embedding"])
        return shared["token_embeddings"], *found


def routes_of(parts: Iterable[nn.Module]) -> tuple[str, ...] | tuple[None]:
    """Return the tasks that a model has routes for; ``None`` alone if it has no Router."""
    return ("query", "document") if any(isinstance(part, Router) for part in parts) else (None,)


def trace(model: SentenceTransformer, path: Path) -> None:
    """Write ``model``, in fp32 on the CPU, as one ONNX graph from tokens to sentence embeddings.

    The graph takes any number of texts of any length. The weights of large models are written to a file beside it.

    Raises:
        ModelError: If the model cannot be traced, or takes other inputs than tokens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    example = model.preprocess(list(_EXAMPLE))
    inputs = tuple(name for name, value in example.items() if isinstance(value, Tensor) and value.ndim == 2)
    if not set(inputs) <= _INPUTS:
        raise ModelError(
            f"The model takes {', '.join(sorted(set(inputs) - _INPUTS))}, which tokenizers do not give.",
            "Models that take input_ids, attention_mask and token_type_ids can be exported.",
        )
    varies = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with stage("tracing the graph"), quiet_exporters(), torch.no_grad():
            torch.onnx.export(
                _Whole(model, inputs).eval(),
                tuple(example[name] for name in inputs),
                path,
                input_names=inputs,
                output_names=OUTPUTS[: 1 + len(routes_of(model))],
                dynamic_shapes=(tuple(varies for _ in inputs),),
                dynamo=True,
                external_data=is_large(model),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            f"This {type(model.transformers_model).__name__} cannot be exported to ONNX: {_reason(error)}",
            "Use the PyTorch model, or export it with a newer torch or transformers.",
        ) from error


def is_large(model: SentenceTransformer) -> bool:
    """Return whether the weights of ``model`` are written to a file beside the graph."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) > _LARGE


def batches(texts: Sequence[str], size: int) -> list[list[str]]:
    """Return texts in groups of similar length."""
    by_length = sorted(texts, key=len)
    return [by_length[start : start + size] for start in range(0, len(by_length), size)]


def tokens(model: SentenceTransformer, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Return the inputs of the graph, each ``(texts, tokens)``, for texts with their prompts."""
    found = model.preprocess(list(texts))
    return {name: value.numpy() for name, value in found.items() if isinstance(value, Tensor) and value.ndim == 2}


def _reason(error: BaseException) -> str:
    """Return the first line of the original error, around which the exporter wraps its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Hide messages for the developers of the exporters: deprecations, and packages that are not used."""
    loggers = [logging.getLogger(), logging.getLogger("torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
