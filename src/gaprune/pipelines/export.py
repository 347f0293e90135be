"""``gaprune.export_model``: a model for another runtime, checked against the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from gaprune.data.read import read_triplets
from gaprune.data.samples import SampleDomain, sample_triplets
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.flops import count_flops
from gaprune.export.folder import check_destination, writing
from gaprune.export.formats.base import ExportFormat, Request
from gaprune.export.formats.registry import format_named
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance, versions
from gaprune.export.records import Export
from gaprune.models.formats import GRAPHS, format_of
from gaprune.models.load import load_model
from gaprune.pipelines.recovered import unpruned
from gaprune.report.export_card import export_card
from gaprune.util.files import folder_bytes
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Exported", "export_model"]

_TOLERANCE = 1e-3
"""The cosine of an fp32 export may be this far below one for any text."""

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
    to: str,
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
        to: Name of a format: ``onnx``, ``openvino``, or another that ``gaprune export --help`` lists.
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
    target = format_named(to)(Request(folder, int8=int8))
    destination = _check_folders(folder, out=out, overwrite=overwrite)
    target.check()
    texts = _texts(domain)
    provenance = Provenance.read(folder)
    model = load_model(folder, device="cpu", dtype="float32", trust_remote_code=trust_remote_code)
    target.check_model(model)
    with writing(destination, overwrite=overwrite) as partial:
        say(f"Exporting {folder} to {to}{' in int8' if int8 else ''}.")
        form = target.write(model, partial, texts)
        say(f"Comparing the embeddings of {len(texts)} texts with those of the original.")
        cosines = _cosines(target, model, partial, texts)
        if cosines is not None and not int8 and not cosines.min() >= 1 - _TOLERANCE:
            raise ModelError(
                f"The {to} model differs from the original: the lowest cosine between the embeddings of a text is "
                f"{cosines.min():.4f}, the mean over {len(texts)} texts {cosines.mean():.4f}.",
                "Nothing was written; use the PyTorch model, and please report this one.",
            )
        source = Parent.of(model, str(folder.resolve())).seen_from(destination, folder)
        record = Export(
            to=to,
            int8=int8,
            form=form,
            source=source,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            flops=count_flops(model).as_dict(),
            versions=versions(),
            texts=0 if cosines is None else len(texts),
            cosine_min=None if cosines is None else float(cosines.min()),
            cosine_mean=None if cosines is None else float(cosines.mean()),
        )
        (partial / "README.md").write_text(export_card(record, target.runtime, target.usage()), encoding="utf-8")
        made = provenance and provenance.seen_from(destination, provenance.parent.find(folder))
        (made or unpruned(model, source)).model_copy(update={"export": record}).write(partial)
    return Exported(destination, folder_bytes(destination), folder_bytes(folder), record)


def _check_folders(folder: Path, *, out: str | Path, overwrite: bool) -> Path:
    """Return the folder to write, which must not hold the model."""
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


def _cosines(
    target: ExportFormat, model: SentenceTransformer, folder: Path, texts: Sequence[str]
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    pair = target.embeddings(model, folder, texts)
    if pair is None:
        return None
    first, second = (each.astype(np.float64) for each in pair)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: np.ndarray[Any, np.dtype[np.float64]] = (first * second).sum(axis=1) / lengths
    return cosines
