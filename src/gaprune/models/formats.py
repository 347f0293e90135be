"""Which runtime a model folder is made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gaprune.errors import ModelError

Format = Literal["torch", "onnx", "openvino", "gguf"]

GRAPHS: Mapping[Format, tuple[str, ...]] = {
    "onnx": ("onnx/model.onnx", "onnx/model_quantized.onnx"),
    "openvino": ("openvino/openvino_model.xml",),
    "gguf": ("model.gguf",),
}
"""Where an exported folder keeps its graph, the usual name first; the same places as in sentence-transformers. The
second name of ONNX is that of int8 in transformers.js."""


_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "0_*/*.safetensors", "0_*/pytorch_model*.bin")
"""Where sentence-transformers keeps the weights of the transformer of a PyTorch model."""


def format_of(folder: str | Path) -> Format:
    """Return which runtime the model in ``folder`` is for.

    A folder as many are on the hub, with PyTorch weights and graphs beside them, is a PyTorch model.
    """
    found = graph_of(folder)
    return next((name for name, places in GRAPHS.items() if found in places), "torch")


def graph_of(folder: str | Path) -> str | None:
    """Return the place of the graph in an exported folder; ``None`` if it is a PyTorch model, or no model at all."""
    folder = Path(folder)
    if any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return None
    places = (place for each in GRAPHS.values() for place in each)
    return next((place for place in places if (folder / place).is_file()), None)


def check_runnable(folder: str | Path) -> None:
    """Refuse a model that nothing here can run.

    Raises:
        ModelError: If it is a GGUF file.
    """
    if format_of(folder) == "gguf":
        raise ModelError(
            f"{folder} holds a GGUF file ({graph_of(folder)}), which llama.cpp runs and GAPrune cannot.",
            "Its README.md says how to run it. Name the folder it was exported from, or export that with --to onnx.",
        )
