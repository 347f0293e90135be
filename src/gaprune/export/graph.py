"""A sentence-transformers model as one ONNX or OpenVINO graph, in fp32 or int8."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["OUTPUTS", "write_onnx", "write_openvino"]

OUTPUTS = ("last_hidden_state", "sentence_embedding")
"""Names of the outputs: token embeddings, as optimum reads them, and sentence embeddings."""

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

    def forward(self, *tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return token embeddings ``(texts, tokens, width)`` and sentence embeddings ``(texts, dimensions)``."""
        features: dict[str, Any] = dict(zip(self.inputs, tokens, strict=True))
        for part in self.parts:
            features = part(features)
        return features["token_embeddings"], features["sentence_embedding"]


def write_onnx(model: SentenceTransformer, path: Path, *, int8: bool = False) -> None:
    """Write ``model``, in fp32 on the CPU, as one ONNX graph from tokens to sentence embeddings.

    Args:
        model: The model; the graph takes any number of texts of any length.
        path: The ``.onnx`` file; the weights of large models are written to a file beside it.
        int8: Quantise weights to int8 by output channel, and activations at run time (dynamic quantisation). The
            weights use 7 of the 8 bits, so that no sum overflows on processors without VNNI.

    Raises:
        ModelError: If the model cannot be traced, or takes other inputs than tokens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not int8:
        _trace(model, path)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        dense = Path(beside) / "dense.onnx"
        _trace(model, dense)
        with _quiet():
            quantize_dynamic(
                dense,
                path,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                use_external_data_format=_is_large(model),
            )


def write_openvino(model: SentenceTransformer, path: Path, *, int8: bool = False) -> None:
    """Write ``model``, in fp32 on the CPU, as an OpenVINO graph (``.xml`` and ``.bin``), via ONNX.

    Raises:
        ModelError: If the model cannot be traced.
    """
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        dense = Path(beside) / "dense.onnx"
        _trace(model, dense)
        graph = openvino.convert_model(dense)
        if int8:
            import nncf

            nncf.set_log_level(logging.ERROR)
            with contextlib.redirect_stdout(sys.stderr):  # its progress bars; stdout is for results
                graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
        openvino.save_model(graph, path, compress_to_fp16=False)


def _trace(model: SentenceTransformer, path: Path) -> None:
    example = model.preprocess(list(_EXAMPLE))
    inputs = tuple(name for name, value in example.items() if isinstance(value, Tensor) and value.ndim == 2)
    if not set(inputs) <= _INPUTS:
        raise ModelError(
            f"The model takes {', '.join(sorted(set(inputs) - _INPUTS))}, which tokenizers do not give.",
            "Models that take input_ids, attention_mask and token_type_ids can be exported.",
        )
    varies = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                _Whole(model, inputs).eval(),
                tuple(example[name] for name in inputs),
                path,
                input_names=inputs,
                output_names=OUTPUTS,
                dynamic_shapes=(tuple(varies for _ in inputs),),
                dynamo=True,
                external_data=_is_large(model),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            f"This {type(model.transformers_model).__name__} cannot be exported to ONNX: {_reason(error)}",
            "Use the PyTorch model, or export it with a newer torch or transformers.",
        ) from error


def _is_large(model: SentenceTransformer) -> bool:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) > _LARGE


def _reason(error: BaseException) -> str:
    """Return the first line of the original error, around which the exporter wraps its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
