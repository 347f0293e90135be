"""Which runtime a model folder is made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = ["GRAPHS", "Format", "format_of"]

Format = Literal["torch", "onnx", "openvino"]

GRAPHS: Mapping[Format, str] = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
"""Where an exported folder keeps its graph; the same places as in sentence-transformers."""


_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "0_*/*.safetensors", "0_*/pytorch_model*.bin")
"""Where sentence-transformers keeps the weights of the transformer of a PyTorch model."""


def format_of(folder: str | Path) -> Format:
    """Return which runtime the model in ``folder`` is for.

    A folder as many are on the hub, with PyTorch weights and graphs beside them, is a PyTorch model.
    """
    folder = Path(folder)
    if any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return "torch"
    return next((name for name, graph in GRAPHS.items() if (folder / graph).is_file()), "torch")
