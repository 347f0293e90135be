"""OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gaprune.errors import require_extra
from gaprune.export.comparison import INT8_FLOOR, Agreement
from gaprune.export.formats.base import register
from gaprune.export.formats.graphs import GraphFormat
from gaprune.models.formats import GRAPHS
from gaprune.util.progress import is_shown, stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_BATCH_SIZE = 4
"""Texts of similar length that run together during calibration."""

_WEIGHTS_ALONE = "int8 weights, activations in floating point"
_LOST = "static quantisation moves embeddings too far, to a cosine of {:.2f} for one of the texts for calibration"


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

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:
        """Write the graph and the tokenizer."""
        import openvino

        from gaprune.export.graph import batches, tokens, trace

        self.write_tokenizer(model, folder)
        path, form = folder / GRAPHS["openvino"][0], "fp32"
        path.parent.mkdir()
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            dense = Path(beside) / "dense.onnx"
            trace(model, dense)
            graph = openvino.Core().read_model(dense)  # convert_model splits a path at commas
            if self.request.int8 and self.request.weights_only:
                graph, form = _compressed(graph), _WEIGHTS_ALONE
            elif self.request.int8:
                feeds = [tokens(model, batch) for batch in batches(texts, _BATCH_SIZE)]
                _save(_quantised(graph.clone(), feeds), path)
                found = Agreement.of(self.by_export(model, folder, texts), self.by_model(model, texts), texts)
                if found.reaches(INT8_FLOOR):
                    return f"int8, static: ranges of activations calibrated on {len(texts)} texts"
                path.unlink()
                path.with_suffix(".bin").unlink()
                graph, form = _compressed(graph), f"{_WEIGHTS_ALONE}; note: {_LOST.format(found.lowest)}"
            _save(graph, path)
        return form

    def usage(self) -> str:
        """Return code that needs the runtime and ``tokenizers`` alone, and a line for optimum-intel."""
        line = '`SentenceTransformer("path/to/this/folder", backend="openvino")` opens it too, with optimum-intel.\n'
        return f"{super().usage()}\n{line}"


def _save(graph: Any, path: Path) -> None:
    """Write a graph and its weights; OpenVINO's error does not say that the disk is full, nor which file it means."""
    import openvino

    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"OpenVINO could not write {path.name} and its weights; is the disk full? {error}") from error


def _compressed(graph: Any) -> Any:
    """Quantise the weights alone."""
    import nncf

    with _quiet(), stage("quantising the weights"):
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)


def _quantised(graph: Any, feeds: Sequence[Mapping[str, NDArray[np.int64]]]) -> Any:
    """Quantise weights and activations, after scales moved outliers of activations into weights (SmoothQuant)."""
    import nncf

    with _quiet(), stage("quantising weights and activations"):
        return nncf.quantize(
            graph,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(feeds),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's messages and progress bars from stdout, which is for results, and show none where none are shown."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr if is_shown() else io.StringIO()):
        yield
