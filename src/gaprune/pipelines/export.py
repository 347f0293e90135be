"""``gaprune.export_model``: a model for another runtime, checked against the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from gaprune.data.read import read_triplets
from gaprune.data.samples import SampleDomain, sample_triplets
from gaprune.errors import ConfigError, ModelError, suggest
from gaprune.evaluation.cost.flops import count_flops
from gaprune.export.folder import check_destination, writing
from gaprune.export.graph import check_extra, write_onnx, write_openvino
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance, versions
from gaprune.export.records import Export
from gaprune.models.encoders import TorchModel
from gaprune.models.exported import ExportedModel
from gaprune.models.formats import GRAPHS, format_of
from gaprune.models.load import load_model
from gaprune.pipelines.recovered import unpruned
from gaprune.report.export_card import export_card
from gaprune.util.files import folder_bytes
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ExportFormat", "Exported", "export_model"]

ExportFormat = Literal["onnx", "openvino"]

_TOLERANCE = 1e-3
"""The cosine of an fp32 export may be this far below one for any text."""

_UNLIMITED = 1 << 31
"""transformers writes a limit beyond this if there is none."""

_TEXTS = 16
"""Sample triplets per domain whose queries and positives are compared."""

_ODD = (
    "a",
    "?!",
    "Zürich, 東京, Москва, القاهرة 🙂",
    "\ttabs\nand   spaces ",
    "1,234.56 % of 7 · 10⁻³",
    "long " * 2000,
)
"""Texts that different tokenizers treat differently."""


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, its size in bytes, that of the original, and how well the two agree."""

    path: Path
    bytes: int
    source_bytes: int
    record: Export

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        record = self.record.model_dump(include={"to", "int8", "texts", "cosine_min", "cosine_mean"})
        return {"path": str(self.path), "bytes": self.bytes, "source_bytes": self.source_bytes, **record}


def export_model(
    folder: str | Path,
    *,
    to: ExportFormat,
    out: str | Path,
    int8: bool = False,
    domain: str | Path | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
) -> Exported:
    """Write a model for ONNX Runtime or OpenVINO, and compare its embeddings with those of the original.

    The whole model, with pooling and all later modules, becomes one graph from tokens to embeddings, in fp32 or int8.
    Its card, :class:`gaprune.ExportedModel` and docs/export.md say what opens the folder.

    Args:
        folder: A sentence-transformers folder; GAPrune need not have made it.
        to: ``onnx`` or ``openvino``.
        out: Folder to write.
        int8: Quantise weights to int8, and activations at run time.
        domain: Triplets, in any form that pruning reads, whose texts are compared in addition to our samples.
        overwrite: Whether an existing output of GAPrune is replaced.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        GapruneError: One of its kinds; a :class:`gaprune.errors.ModelError` if an fp32 export is not the same model.

    Example:
        >>> gaprune.export_model("pruned", to="onnx", int8=True, out="pruned-onnx").record.cosine_min
    """
    folder = Path(folder)
    destination = _check_options(folder, to=to, out=out, overwrite=overwrite)
    check_extra(to, int8=int8)
    texts = _texts(domain)
    provenance = Provenance.read(folder)
    model = load_model(folder, device="cpu", dtype="float32", trust_remote_code=trust_remote_code)
    _check_model(model)
    with writing(destination, overwrite=overwrite) as partial:
        _write_folder(model, partial)
        say(f"Exporting {folder} to {to}{' in int8' if int8 else ''}.")
        (write_onnx if to == "onnx" else write_openvino)(model, partial / GRAPHS[to], int8=int8)
        say(f"Comparing the embeddings of {len(texts)} texts with those of the original.")
        cosines = _cosines(model, partial, texts)
        if not int8 and not cosines.min() >= 1 - _TOLERANCE:
            raise ModelError(
                f"The {to} model differs from the original: the lowest cosine between the embeddings of a text is "
                f"{cosines.min():.4f}, the mean over {len(texts)} texts {cosines.mean():.4f}.",
                "Nothing was written; use the PyTorch model, and please report this one.",
            )
        source = Parent.of(model, str(folder.resolve())).seen_from(destination, folder)
        record = Export(
            to=to,
            int8=int8,
            source=source,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            flops=count_flops(model).as_dict(),
            versions=versions(),
            texts=len(texts),
            cosine_min=float(cosines.min()),
            cosine_mean=float(cosines.mean()),
        )
        (partial / "README.md").write_text(export_card(record), encoding="utf-8")
        made = provenance and provenance.seen_from(destination, provenance.parent.find(folder))
        (made or unpruned(model, source)).model_copy(update={"export": record}).write(partial)
    return Exported(destination, folder_bytes(destination), folder_bytes(folder), record)


def _check_options(folder: Path, *, to: str, out: str | Path, overwrite: bool) -> Path:
    """Return the folder to write, which must not hold the model."""
    if to not in get_args(ExportFormat):
        near = suggest(to, get_args(ExportFormat))
        raise ConfigError(f"to: {to!r} is not a format.{near}", "Use onnx or openvino.")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Name the folder of a model; download one that is on the hub.")
    if format_of(folder) != "torch":
        graph = GRAPHS[format_of(folder)]
        raise ModelError(f"{folder} is exported already ({graph}).", "Name the folder of the original.")
    destination = check_destination(out, overwrite=overwrite)
    if folder.resolve().is_relative_to(destination):
        raise ConfigError(f"out: {out} would replace the model {folder}.", "Choose another --out.")
    return destination


def _texts(domain: str | Path | None) -> list[str]:
    triplets = [each for name in get_args(SampleDomain) for each in read_triplets(sample_triplets(name))[:_TEXTS]]
    if domain is not None:
        triplets += read_triplets(domain)
    return list(dict.fromkeys([*_ODD, *(text for each in triplets for text in (each.query, each.positive))]))


def _check_model(model: SentenceTransformer) -> None:
    """Refuse models that a graph and a tokenizer file cannot express."""
    if getattr(model.tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"The model's tokenizer ({type(model.tokenizer).__name__}) is not one of the tokenizers library.",
            "Only models with a tokenizer.json can be exported.",
        )
    if not all(getattr(module, "include_prompt", True) for module in model):
        raise ModelError(
            "The model excludes the tokens of its prompt from pooling, which a graph cannot express.",
            "Use the PyTorch model.",
        )


def _write_folder(model: SentenceTransformer, folder: Path) -> None:
    """Write everything but the weights of the transformer, with a tokenizer that pads and truncates by itself."""
    from tokenizers import Tokenizer

    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    for file in (*folder.glob("model*.safetensors"), *folder.glob("model*.safetensors.index.json")):
        file.unlink()
    path = folder / "tokenizer.json"
    tokenizer, own = Tokenizer.from_file(str(path)), model.tokenizer
    if model.max_seq_length is None or model.max_seq_length > _UNLIMITED:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(model.max_seq_length, direction=own.truncation_side)
    tokenizer.enable_padding(
        direction=own.padding_side, pad_id=own.pad_token_id, pad_type_id=own.pad_token_type_id, pad_token=own.pad_token
    )
    tokenizer.save(str(path))


def _cosines(model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    pair = [
        encoder.encode(texts, batch_size=8).astype(np.float64)
        for encoder in (TorchModel(model), ExportedModel(folder, exact=True))
    ]
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in pair)
    cosines: np.ndarray[Any, np.dtype[np.float64]] = (first * second).sum(axis=1)
    return cosines
