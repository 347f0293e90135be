"""ONNX, for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gaprune.export.formats.graphs import GraphFormat
from gaprune.export.formats.registry import register
from gaprune.models.formats import GRAPHS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Onnx"]


@register
class Onnx(GraphFormat):
    """One ONNX graph, in fp32 or int8."""

    name: ClassVar[str] = "onnx"
    runtime: ClassVar[str] = "ONNX Runtime"
    modules: ClassVar[tuple[str, ...]] = ("onnxscript", "onnxruntime")
    imports: ClassVar[str] = "import onnxruntime"
    run: ClassVar[str] = """\
session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
feed = {each.name: np.array(parts[each.name]) for each in session.get_inputs()}
embeddings = session.run(["sentence_embedding"], feed)[0]"""

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write the graph and the tokenizer."""
        from gaprune.export.graph import write_onnx

        self.write_tokenizer(model, folder)
        write_onnx(model, folder / GRAPHS["onnx"], int8=self.request.int8)
        return "int8, activations quantised at run time" if self.request.int8 else "fp32"
