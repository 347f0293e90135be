"""Which runtime a model folder is made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = ["GRAPHS", "Format", "format_of"]

Format = Literal["torch", "onnx", "openvino"]

GRAPHS: Mapping[Format, str] = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
"""Where an exported folder keeps its graph; the same places as in sentence-transformers."""


def format_of(folder: str | Path) -> Format:
    """Return which runtime the model in ``folder`` is for."""
    return next((name for name, graph in GRAPHS.items() if (Path(folder) / graph).is_file()), "torch")
