"""``gaprune export`` and ``gaprune unpack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprune.cli.files import named
from gaprune.cli.options import JsonFlag, Overwrite, QuietFlag, TrustRemoteCode, silence, with_options
from gaprune.cli.output import answer, show
from gaprune.config.data import ExportOptions
from gaprune.errors import ConfigError

if TYPE_CHECKING:
    from gaprune.export.archive import Packed
    from gaprune.pipelines.export import Exported

_MB = 1e6


@with_options(ExportOptions, recipe=False)
def export(
    options: dict[str, Any],
    model: Annotated[Path, typer.Argument(help="Folder of a model.", callback=named)],
    out: Annotated[Path, typer.Option(help="Folder to write; for an archive, the file.")],
    to: Annotated[
        str | None, typer.Option(help="onnx, openvino, gguf (extras; without PyTorch), torch, router, archive.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option("--for", help="In place of --to, what will open it: tei, fastembed, transformers.js.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to int8: weights and activations.")] = False,
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="With --int8, leave activations in floating point.")
    ] = False,
    domain: Annotated[
        Path | None, typer.Option(help="Triplets: half calibrate int8, half are held out for the comparison.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="For a router: the model that embeds documents; default: the recorded parent.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Shorten embeddings to so many dimensions (PCA of --domain).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write it even if it is below the floor, or of another parent.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a model as ONNX, OpenVINO, GGUF, a router or a lossless archive, checked against the original.

    Example: gaprune export pruned --to onnx --int8 --out pruned-onnx
    """
    from gaprune.export.archive import pack
    from gaprune.models.demo import local_folder
    from gaprune.pipelines.export import export_model

    if to == "archive":
        graph_only = {"int8": int8, "weights_only": weights_only, "domain": domain, "force": force}
        for option, given in {
            **graph_only,
            **options,
            "for": reader,
            "parent": parent,
            "dimensions": dimensions,
            "trust_remote_code": trust_remote_code,
        }.items():
            if given:
                raise ConfigError(f"{option}: an archive keeps the model as it is.", "Leave it out with --to archive.")
        packed = pack(local_folder(model), out, overwrite=overwrite)
        answer(packed.as_dict(), _packed(packed), quiet=quiet, as_json=as_json)
        return
    with silence(quiet, as_json):
        result = export_model(
            model,
            to=to,
            reader=reader,
            out=out,
            int8=int8,
            weights_only=weights_only,
            domain=domain,
            parent=parent,
            dimensions=dimensions,
            force=force,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
            **ExportOptions.build(options).model_dump(exclude_unset=True),
        )
    answer(result.as_dict(), _exported(result), quiet=quiet, as_json=as_json)


def unpack(
    file: Annotated[Path, typer.Argument(help="Archive that `gaprune export --to archive` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
) -> None:
    """Unpack an archive: every file of the model's folder as it was, bit by bit."""
    from gaprune.export.archive import unpack as unpack_archive

    folder = unpack_archive(file, out, overwrite=overwrite)
    if not quiet:
        show(f"Written to {folder}, bit by bit what was packed.")


def _packed(packed: Packed) -> str:
    return (
        f"Written to {packed.path}: {packed.bytes / _MB:.1f} MB; the folder has {packed.folder_bytes / _MB:.1f} MB. "
        "An archive saves disk and transfer only: unpack it before use (gaprune unpack "
        f"{packed.path} --out DIR)."
    )


def _exported(result: Exported) -> str:
    found = result.record
    compared = (
        "Nothing here can run it, so it was not compared with the original."
        if found.cosine_min is None
        else f"Cosine to the embeddings of the original over {found.texts} held-out texts "
        f"({found.texts_origin}): lowest "
        f"{found.cosine_min:.6f}, mean {found.cosine_mean:.6f}."
    )
    if found.below_floor:
        compared += " Warning: this is below the floor; the export was written by force."
    return (
        f"Written to {result.path} ({found.form}): {result.bytes / _MB:.1f} MB; the original has "
        f"{result.source_bytes / _MB:.1f} MB. {compared} README.md shows how to open it"
        + ("." if found.cosine_min is None else "; gaprune bench measures its cost.")
    )
