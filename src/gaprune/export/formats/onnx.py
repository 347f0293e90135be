"""ONNX, for ONNX Runtime, in fp32 and in two forms of int8."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaprune.export.comparison import Agreement, Floor
from gaprune.export.formats.base import register
from gaprune.export.formats.graphs import GraphFormat
from gaprune.models.formats import GRAPHS
from gaprune.util.progress import stage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NEAR = Floor(0.995, 0.98)
"""Matrices are left out of dynamic quantisation until the texts for calibration agree so far; above the floor, as
other texts agree a little less."""

_BATCH_SIZE = 8

_BLOCK = 64
"""Weights that share a scale in the weight-only form."""
_WEIGHT_LEVELS = 64
"""Weights keep 7 of the 8 bits, so that no sum overflows on processors without VNNI."""
_ACTIVATION_LEVELS = 255


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
            with stage("quantising the weights"):
                _write_weights_only(dense, path, large=is_large(model))
        return "int8 weights in blocks of 64, activations quantised by token and block at run time"


def _dynamic(model: SentenceTransformer, dense: Path, path: Path, texts: Sequence[str]) -> str:
    """Quantise all products but the worst, as few as bring the embeddings of ``texts`` near enough."""
    from gaprune.export.graph import batches, is_large, tokens

    large = is_large(model)
    feeds = [tokens(model, batch) for batch in batches(texts, _BATCH_SIZE)]
    with stage("measuring the error of each matrix in int8"):
        ranked = _matrices_by_error(dense, feeds, large=large)
    wanted = GraphFormat.by_model(model, texts)
    with stage("quantising") as shown:
        for kept in _counts(len(ranked)):
            shown.update(description=f"quantising all but {kept} of {len(ranked)} matrices")
            _write_dynamic(dense, path, keep=ranked[:kept], large=large)
            if Agreement.of(GraphFormat.by_export(model, path.parents[1], texts), wanted, texts).reaches(NEAR):
                break
    form = "int8, activations quantised by tensor at run time"
    note = f"note: {kept} of {len(ranked)} matrices are kept in fp32, as int8 there moves embeddings too far"
    return f"{form}; {note}" if kept else form


def _write_dynamic(dense: Path, path: Path, *, keep: Sequence[str] = (), large: bool = False) -> None:
    """Quantise weights by output channel, the embedding table, and activations by tensor at run time.

    Args:
        dense: The graph in fp32.
        path: The file to write.
        keep: Names of matrix products that stay in fp32.
        large: Whether weights are written to a file beside the graph.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        dense,
        path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        nodes_to_exclude=list(keep),
        use_external_data_format=large,
    )


def _write_weights_only(dense: Path, path: Path, *, large: bool = False) -> None:
    """Quantise weights in blocks of 64 inputs that share a scale, and the embedding table.

    The operator is ONNX Runtime's ``MatMulNBits`` (from version 1.22 with 8 bits). It quantises activations too, by
    token and block, so that an outlier disturbs its own block alone.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.ERROR)
    settings: dict[str, Any] = {"block_size": _BLOCK, "is_symmetric": True, "accuracy_level": 4}
    quantiser = MatMulNBitsQuantizer(
        onnx.load(dense), algo_config=DefaultWeightOnlyQuantConfig(**settings, bits=8), **settings
    )
    quantiser.process()
    blocks = dense.with_name("blocks.onnx")
    quantiser.model.save_model_to_file(str(blocks), large)
    quantize_dynamic(
        blocks, path, weight_type=QuantType.QInt8, op_types_to_quantize=["Gather"], use_external_data_format=large
    )


def _matrices_by_error(dense: Path, feeds: Sequence[Mapping[str, NDArray[np.int64]]], *, large: bool) -> list[str]:
    """Return the names of the products with a weight matrix, those first that dynamic quantisation disturbs most.

    The error is the norm of the difference between the product of rounded and of exact numbers, over the norm of the
    exact product; the largest over the batches ``feeds``, so that what harms few texts much ranks first.
    """
    import onnx
    import onnxruntime

    graph = onnx.load(dense)
    weights = {each.name: each for each in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    inputs = list(dict.fromkeys(node.input[0] for node in products))
    known = {each.name for each in graph.graph.output}
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inputs if name not in known)
    probed = dense.with_name("probed.onnx")
    onnx.save(graph, probed, save_as_external_data=large, location="probed.onnx.data")
    session = onnxruntime.InferenceSession(str(probed), providers=["CPUExecutionProvider"])
    errors = {node.name: 0.0 for node in products}
    for feed in feeds:
        found = dict(zip(inputs, session.run(inputs, dict(feed)), strict=True))
        for node in products:
            matrix = onnx.numpy_helper.to_array(weights[node.input[1]], str(dense.parent))
            errors[node.name] = max(errors[node.name], _error(found[node.input[0]], matrix))
    return sorted(errors, key=lambda name: -errors[name])


def _error(values: NDArray[np.float32], matrix: NDArray[np.float32]) -> float:
    rows = values.reshape(-1, values.shape[-1])
    low, high = min(0.0, float(rows.min())), max(0.0, float(rows.max()))
    step = max(high - low, 1e-12) / _ACTIVATION_LEVELS
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / _WEIGHT_LEVELS
    exact = rows @ matrix
    rounded = (np.round(rows / step) * step) @ (np.round(matrix / scale) * scale)
    return float(np.linalg.norm(rounded - exact) / max(float(np.linalg.norm(exact)), 1e-12))


def _counts(total: int) -> Iterator[int]:
    """Yield how many products are tried in fp32: none, 1, 2, 4 … and all."""
    count = 0
    while count < total:
        yield count
        count = max(1, 2 * count)
    yield total
