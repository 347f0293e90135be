"""gaprune.export_model: a model for another runtime or with fewer dimensions, checked against the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.typed import DomainReading
from gaprune.data.documents.read import holds_documents
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.footprint import count_flops, footprint
from gaprune.export.comparison import FP32_FLOOR, INT8_FLOOR, Agreement, Floor, Texts
from gaprune.export.folder import check_destination, write_card, writing
from gaprune.export.formats.base import Request, format_named
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance, versions
from gaprune.export.readers import reader_named
from gaprune.export.records import Export
from gaprune.models.checks import check_routes
from gaprune.models.demo import local_folder
from gaprune.models.formats import graph_of
from gaprune.models.heads import add_head
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.pipelines.recovered import unpruned
from gaprune.reconstruction.head import pca_head, truncation_head
from gaprune.report.export_card import export_card
from gaprune.util.files import folder_bytes
from gaprune.util.progress import say, stage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, its size in bytes, that of the original, and how well the two agree."""

    path: Path
    bytes: int
    source_bytes: int
    record: Export

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        record = self.record.model_dump(include={"to", "int8", "form", "texts", "cosine_min", "cosine_mean", "floor"})
        return {"path": str(self.path), "bytes": self.bytes, "source_bytes": self.source_bytes, **record}


def export_model(
    folder: str | Path,
    *,
    to: str | None = None,
    reader: str | None = None,
    out: str | Path,
    int8: bool = False,
    weights_only: bool = False,
    domain: str | Path | None = None,
    parent: str | Path | None = None,
    dimensions: int | None = None,
    floor: Sequence[float] | str | None = None,
    force: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    **reading: Unpack[DomainReading],
) -> Exported:
    """Write a model in another format, and compare its embeddings with those of the original.

    The whole model, with pooling and all later modules, becomes one graph from tokens to embeddings, in fp32 or int8.
    Its card, :class:`gaprune.ExportedModel` and docs/export.md say what opens the folder.

    Args:
        folder: A sentence-transformers folder; GAPrune need not have made it.
        to: Name of a format: ``onnx``, ``openvino``, ``gguf``, ``router`` or ``torch``.
        reader: Name of a program in place of a format: ``tei``, ``fastembed`` or ``transformers.js``. It decides the
            format and the names of files, what it cannot run is refused, and the card says how to start it.
        out: Folder to write.
        int8: Quantise to int8: for OpenVINO weights and activations, by ranges calibrated on texts; for ONNX weights,
            and activations as they come. What would move embeddings too far is kept in fp32.
        weights_only: With ``int8``, quantise the weights alone; activations stay in floating point.
        domain: Triplets of your own, in any form that pruning reads. Half of them calibrate the quantisation; the
            export is held against the model on the other half, and on our samples.
        parent: For ``router``, the model that embeds the documents; by default the one that ``gaprune.json`` names.
        dimensions: Shorten the embeddings to so many dimensions first, by PCA of the texts of ``domain`` or, for a
            Matryoshka model, by truncation; the comparison is with the shortened model.
        floor: The least mean and the least lowest cosine between the embeddings of a held-out text by the export and
            by the model in fp32; by default 0.999 and 0.999, and 0.98 and 0.95 in int8.
        force: Write the export even if it is below the floor, or ``parent`` is not the recorded one; its card says so.
        overwrite: Whether an existing output of GAPrune is replaced.
        trust_remote_code: Whether code that comes with the model may run.
        **reading: How ``domain`` is read: ``subset``, ``split``, ``columns``, ``skip_empty``.

    Raises:
        GapruneError: One of its kinds; a :class:`gaprune.errors.ModelError` if the export is below the floor; then
            nothing is written.

    Example:
        >>> gaprune.export_model("pruned", to="onnx", int8=True, out="pruned-onnx").record.cosine_min
    """
    folder = Path(local_folder(folder))
    made_for = None if reader is None else reader_named(reader, to)
    to = made_for.to if made_for else to
    if to == "router" and dimensions is not None:
        raise ConfigError(
            "dimensions: a router keeps both models as they are.", "Leave it out, or use another format."
        )
    request = Request(folder, int8, weights_only, parent, made_for, trust_remote_code, force)
    target = format_named(to)(request)
    least = Floor.build(floor) if floor is not None else INT8_FLOOR if int8 else FP32_FLOOR
    destination = _check_folders(folder, out=out, overwrite=overwrite)
    target.check()
    if not target.runs_here:
        asked = {"domain": domain is not None and dimensions is None, "floor": floor is not None, "force": force}
        for option in (option for option, given in asked.items() if given):
            raise ConfigError(f"{option}: nothing here can run {to} and compare it.", "Leave it out.")
    for option in reading if domain is None else ():
        raise ConfigError(f"{option}: no triplets are named, so this has no effect.", "Name them, or leave it out.")
    provenance = Provenance.read(folder)
    if domain is None and int8 and target.runs_here and provenance is not None:
        domain, reading = _recorded_domain(provenance, folder)
    own = () if domain is None else read_triplets(domain, **reading)
    model = request.load(folder, dtype="float32")
    shortened = None if dimensions is None else shorten(model, folder, dimensions, own)
    target.check_model(model)
    check_routes(model)
    if made_for is not None:
        made_for.check(model)
    texts = Texts.draw(own, resolve_prompts(model))
    with writing(destination, overwrite=overwrite) as partial:
        say(f"Exporting {folder} to {to}{' in int8' if int8 else ''}.")
        with stage(f"Exporting {folder.name} to {to}"):
            form = target.write(model, partial, texts.calibration)
        if target.runs_here:
            more = "" if own else "; triplets of your own join them with --domain (domain=...)"
            say(
                f"Comparing the embeddings of {len(texts.held_out)} held-out texts with those of the original: "
                f"{texts.origin}{more}."
            )
        with stage("Comparing embeddings"):
            pair = target.embeddings(model, partial, texts.held_out)
        agreement = None if pair is None else Agreement.of(*pair, texts.held_out)
        if agreement is not None and not (force or agreement.reaches(least)):
            raise _too_far(agreement, least, int8=int8)
        source = Parent.of(model, str(folder.resolve())).seen_from(destination, folder)
        record = Export(
            to=target.name,
            int8=int8,
            form=form if shortened is None else f"{form}, {shortened}",
            source=source,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            flops=count_flops(model).as_dict(),
            footprint=footprint(model),
            versions=versions(),
            texts=0 if agreement is None else agreement.texts,
            texts_origin="" if agreement is None else texts.origin,
            cosine_min=None if agreement is None else agreement.lowest,
            cosine_mean=None if agreement is None else agreement.mean,
            floor=least,
        )
        made = provenance and provenance.seen_from(destination, provenance.parent.find(folder))
        made = _with_export(made or unpruned(model, source), record, is_shortened=shortened is not None)
        usage = target.usage()
        if made_for is not None:
            usage += "\n" + made_for.usage_of(graph_of(partial) or "", model)
        card = export_card(record, made.parent, target.runtime, usage)
        write_card(partial, card, destination.name)
        made.write(partial)
    return Exported(destination, folder_bytes(destination), folder_bytes(folder), record)


def _with_export(made: Provenance, record: Export, *, is_shortened: bool) -> Provenance:
    """Return the provenance of an export, without what was measured of longer embeddings than it has."""
    if not is_shortened:
        return made.model_copy(update={"export": record})
    sizes = made.sparsity.model_copy(update={"parameters": record.parameters})
    return made.model_copy(update={"export": record, "evaluation": None, "sparsity": sizes})


def _recorded_domain(provenance: Provenance, folder: Path) -> tuple[Path | None, DomainReading]:
    """Return the file of triplets that a model was made with, if one of its name lies beside the model or here.

    Only its name is recorded, so what is read is said.
    """
    recorded = provenance.recipe if provenance.shrink is None else provenance.shrink.options
    reading: Any = {name: each for name in DomainReading.__annotations__ if (each := recorded.get(name))}
    places = [place / str(recorded.get("domain")) for place in (folder.resolve().parent, Path.cwd())]
    found = next(
        (each for each in places if each.is_file() and not holds_documents(each, reading.get("columns", ()))), None
    )
    if found is None:
        return None, {}
    say(f"int8 is calibrated on {found}, which has the name of the domain in gaprune.json; --domain names another.")
    return found, reading


def _too_far(agreement: Agreement, floor: Floor, *, int8: bool) -> ModelError:
    way = (
        "Leave int8 out, or try weights_only (--weights-only)" if int8 else "Use the PyTorch model and report this one"
    )
    return ModelError(
        f"The export is too far from the original. {agreement} The floor is {floor.mean:g} and {floor.lowest:g}.",
        f"Nothing was written. {way}; lower the floor (--set floor=0.9,0.8), or write it all the same with --force "
        "(force=True).",
    )


def _check_folders(folder: Path, *, out: str | Path, overwrite: bool) -> Path:
    """Return the folder to write, which must not hold the model."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder.", "Name the folder of a model; download one that is on the hub.")
    graph = graph_of(folder)
    if graph is not None:
        raise ModelError(f"{folder} is exported already ({graph}).", "Name the folder of the original.")
    destination = check_destination(out, overwrite=overwrite)
    if folder.resolve().is_relative_to(destination):
        raise ConfigError(f"out: {out} would replace the model {folder}.", "Choose another --out.")
    return destination


def shorten(model: SentenceTransformer, folder: Path, dimensions: int, triplets: Sequence[Triplet]) -> str:
    """Give ``model`` a head with fewer dimensions, and return how, in words.

    The embeddings of a Matryoshka model are truncated; those of another are projected on the first principal
    components of the embeddings of ``triplets``.

    Args:
        model: The model, which is changed.
        folder: Where it was loaded from, which says whether it is a Matryoshka model.
        dimensions: Fewer than it has.
        triplets: Triplets of the domain.

    Raises:
        ConfigError: If ``dimensions`` does not fit, or texts are missing or too few.
    """
    own = model.get_embedding_dimension()
    if is_matryoshka(model, folder):
        add_head(model, truncation_head(model, dimensions))
        return f"the first {dimensions} of {own} dimensions"
    if not triplets:
        raise ConfigError(
            "dimensions: the model is no Matryoshka model, so its principal components are needed.",
            "Name triplets of the domain, on whose texts they are computed: --domain FILE (domain=...).",
        )
    texts: dict[Role, list[str]] = {
        "query": list(dict.fromkeys(each.query for each in triplets)),
        "passage": list(dict.fromkeys(text for each in triplets for text in each.passages)),
    }
    add_head(model, pca_head(model, texts, dimensions, prompts=resolve_prompts(model)))
    return f"{dimensions} of {own} dimensions by PCA of {sum(map(len, texts.values())):,} texts"


def is_matryoshka(model: SentenceTransformer, folder: Path) -> bool:
    """Return whether a model was trained so that the first dimensions of its embeddings are embeddings themselves.

    Its configuration says so with ``matryoshka_dimensions`` or ``is_matryoshka``, as vLLM reads them, or its card with
    the loss that sentence-transformers trained it with.
    """
    config = getattr(model[0], "config", None)
    if getattr(config, "matryoshka_dimensions", None) or getattr(config, "is_matryoshka", False):
        return True
    card = folder / "README.md"
    return card.is_file() and "loss:MatryoshkaLoss" in card.read_text(encoding="utf-8", errors="replace")
