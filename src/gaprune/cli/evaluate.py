"""``gaprune evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gaprune.cli.files import named
from gaprune.cli.options import Device, JsonFlag, QuietFlag, TrustRemoteCode, silence
from gaprune.cli.output import answer, remark
from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.util.files import check_file, write_json


def evaluate(
    model: Annotated[str, typer.Argument(help="Model to evaluate: a folder, a hub id or demo.", callback=named)],
    tasks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tasks (BEIR, STS, pairs, triplets, classification); this or --benchmark is needed."
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="An mteb benchmark (ChemTEB), task names, or finance (mteb's finance tasks); extra mteb."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="Evaluate this model too, and the model's queries in its index.", callback=named)
    ] = None,
    index: Annotated[
        Literal["parent", "sizes"] | None,
        typer.Option(help="parent: refuse what cannot be tried in its index. sizes: also score smaller indexes."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts encoded at a time.")] = ENCODING_BATCH_SIZE,
    query_prompt: Annotated[
        str | None, typer.Option(help="Text put before queries; default: the model's own prompt.")
    ] = None,
    passage_prompt: Annotated[
        str | None, typer.Option(help="Text put before passages; default: the model's own prompt.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Truncate texts to this many tokens.")] = None,
    device: Device = None,
    dtype: Annotated[str | None, typer.Option(help="Torch dtype to load the models in; default: their own.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a model's quality on your own tasks or an mteb benchmark, beside its parent if named."""
    from gaprune.export.provenance import PROVENANCE_FILE
    from gaprune.pipelines.evaluate import evaluate as verb
    from gaprune.report.shrink import quality_remarks
    from gaprune.report.tables import evaluation_parts

    if out is not None:
        out = check_file(out, overwrite=True)
    with silence(quiet, as_json):
        result = verb(
            model,
            tasks=tasks,
            benchmark=benchmark,
            parent=parent,
            index=index,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            device=device,
            dtype=dtype,
            max_length=max_length,
        )
    if out is not None:
        write_json(out, result.as_dict())
    answer(result.as_dict(), *evaluation_parts(result), *quality_remarks(result), quiet=quiet, as_json=as_json)
    if out is None and (Path(model) / PROVENANCE_FILE).is_file():
        unkept = (
            f"The card and {PROVENANCE_FILE} of {model} were not changed: this result is kept only with --out FILE."
        )
        remark(unkept, quiet=quiet or as_json)
