"""ONNX, for ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gaprune.export.comparison import Agreement, Floor
from gaprune.export.formats.base import register
from gaprune.export.formats.graphs import GraphFormat
from gaprune.models.formats import GRAPHS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NEAR = Floor(0.995, 0.98)
"""Matrices are left out of dynamic quantisation until the texts for calibration agree so far; above the floor, as
other texts agree a little less."""

_BATCH_SIZE = 8


@register
class Onnx(GraphFormat):
    """One ONNX graph, in fp32 or int8."""

    name: ClassVar[str] = "onnx"
    runtime: ClassVar[str] = "ONNX Runtime"
    modules: ClassVar[tuple[str, ...]] = ("onnxscript", "onnxruntime")
    imports: ClassVar[str] = "import onnxruntime"
    run: ClassVar[str] = """\
session = onnxruntime.InferenceSession(f"{folder}/GRAPH")
feed = {each.name: np.array(parts[each.name]) for each in session.get_inputs()}
embeddings = session.run(["sentence_embedding"], feed)[0]"""

    @property
    def graph(self) -> str:
        """The place of the graph: int8 has a name of its own unless a reader looks for the usual one alone."""
        usual, int8 = GRAPHS["onnx"]
        reader = self.request.reader
        return int8 if self.request.int8 and not (reader and reader.one_name) else usual

    def usage(self) -> str:
        """Return code that needs the runtime and ``tokenizers`` alone."""
        return super().usage().replace("GRAPH", self.graph)

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:
        """Write the graph and the tokenizer."""
        from gaprune.export.graph import is_large, quiet_exporters, trace
        from gaprune.export.quantise_onnx import write_weights_only

        self.write_tokenizer(model, folder)
        path = folder / self.graph
        if not self.request.int8:
            trace(model, path)
            return "fp32"
        path.parent.mkdir()
        with tempfile.TemporaryDirectory(dir=folder) as beside, quiet_exporters():
            dense = Path(beside) / "dense.onnx"
            trace(model, dense)
            if not self.request.weights_only:
                return _dynamic(model, dense, path, texts)
            write_weights_only(dense, path, large=is_large(model))
        return "int8 weights in blocks of 64, activations quantised by token and block at run time"


def _dynamic(model: SentenceTransformer, dense: Path, path: Path, texts: Sequence[str]) -> str:
    """Quantise all products but the worst, as few as bring the embeddings of ``texts`` near enough."""
    from gaprune.export.graph import batches, is_large, tokens
    from gaprune.export.quantise_onnx import counts, matrices_by_error, write_dynamic

    large = is_large(model)
    feeds = [tokens(model, batch) for batch in batches(texts, _BATCH_SIZE)]
    ranked = matrices_by_error(dense, feeds, large=large)
    wanted = GraphFormat.by_model(model, texts)
    for kept in counts(len(ranked)):
        write_dynamic(dense, path, keep=ranked[:kept], large=large)
        if Agreement.of(GraphFormat.by_export(model, path.parents[1], texts), wanted, texts).reaches(NEAR):
            break
    form = "int8, activations quantised by tensor at run time"
    note = f"note: {kept} of {len(ranked)} matrices are kept in fp32, as int8 there moves embeddings too far"
    return f"{form}; {note}" if kept else form
