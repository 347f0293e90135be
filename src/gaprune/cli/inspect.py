"""``gaprune inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprune.cli.files import named
from gaprune.cli.options import Device, JsonFlag, TrustRemoteCode
from gaprune.cli.output import show, show_json


def inspect(
    model: Annotated[str, typer.Argument(help="Model: a folder, a hub id or demo.", callback=named)],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="Torch dtype to load the model in; default: its own.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the origin of the model, and the zeros of every linear layer; without zeros, the shapes of the layers."""
    from gaprune.pipelines.inspect import inspect as verb
    from gaprune.report.index import index_text
    from gaprune.report.sentences import origin_lines
    from gaprune.report.tables import inspection_table

    footprint, provenance = verb(
        model, revision=revision, device=device, dtype=dtype, trust_remote_code=trust_remote_code
    )
    if as_json:
        said = None if provenance is None else provenance.as_dict()
        show_json({"footprint": footprint.as_dict(), "provenance": said})
        return
    if provenance is not None:
        evaluation = provenance.evaluation
        index = "" if evaluation is None else index_text(evaluation, provenance.beside or provenance.parent.name)
        show(*origin_lines(footprint, provenance), *([index] if index else ()))
    elif Path(model).is_dir():
        show("GAPrune did not make this model (it has no gaprune.json).")
    else:
        show("The origin of a model on the hub is not looked up; download the model and inspect its folder.")
    show(inspection_table(footprint, () if provenance is None else provenance.method.selected))
