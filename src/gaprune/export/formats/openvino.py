"""OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gaprune.errors import require_extra
from gaprune.export.formats.graphs import GraphFormat
from gaprune.export.formats.registry import register
from gaprune.models.formats import GRAPHS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["OpenVino"]


@register
class OpenVino(GraphFormat):
    """One OpenVINO graph, in fp32 or int8."""

    name: ClassVar[str] = "openvino"
    runtime: ClassVar[str] = "OpenVINO"
    modules: ClassVar[tuple[str, ...]] = ("onnxscript", "openvino")
    imports: ClassVar[str] = "import openvino"
    run: ClassVar[str] = """\
model = openvino.Core().compile_model(f"{folder}/openvino/openvino_model.xml", "CPU")
feed = {each.any_name: np.array(parts[each.any_name]) for each in model.inputs}
embeddings = model(feed)["sentence_embedding"]"""

    def check(self) -> None:
        """Check options and installed packages, before the model is loaded."""
        super().check()
        if self.request.int8:
            require_extra("Quantising for OpenVINO", self.name, "nncf")

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write the graph and the tokenizer."""
        from gaprune.export.graph import write_openvino

        self.write_tokenizer(model, folder)
        write_openvino(model, folder / GRAPHS["openvino"], int8=self.request.int8)
        return "int8, activations in floating point" if self.request.int8 else "fp32"

    def usage(self) -> str:
        """Return code that needs the runtime and ``tokenizers`` alone, and a line for optimum-intel."""
        line = '`SentenceTransformer("path/to/this/folder", backend="openvino")` opens it too, with optimum-intel.\n'
        return f"{super().usage()}\n{line}"
