"""``gaprune bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprune.cli.files import named
from gaprune.cli.options import JsonFlag, QuietFlag, TrustRemoteCode, silence, with_default
from gaprune.cli.output import answer, remark
from gaprune.evaluation.cost.workload import Workload

_FIELDS = Workload.model_fields


def bench(
    model: Annotated[
        Path, typer.Argument(help="Folder of a model; an exported one runs in its own runtime.", callback=named)
    ],
    parent: Annotated[Path | None, typer.Argument(help="Folder of what to compare it with.", callback=named)] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(help=with_default(_FIELDS["batch_sizes"]), show_default=False)
    ] = None,
    lengths: Annotated[str | None, typer.Option(help=with_default(_FIELDS["lengths"]), show_default=False)] = None,
    rounds: Annotated[int | None, typer.Option(help=with_default(_FIELDS["rounds"]), show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help=with_default(_FIELDS["threads"]), show_default=False)] = None,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure memory, which loads every model once more.")
    ] = True,
    device: Annotated[str | None, typer.Option(help="Torch device; default: the CPU.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    write_card: Annotated[
        bool,
        typer.Option("--write-card", help="Put the table into the model's README.md, in place of an earlier one."),
    ] = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure what a model costs, beside its parent: parameters, FLOPs, bytes, memory, latency, throughput.

    Example: gaprune bench pruned parent --batch-sizes 1,32 --lengths 32,128 --threads 1
    """
    from gaprune.pipelines.bench import bench as verb
    from gaprune.pipelines.bench import check_card
    from gaprune.pipelines.bench import write_card as put_card
    from gaprune.report.cost import conditions
    from gaprune.report.cost import remark as cost_remark
    from gaprune.report.tables import plain_table

    if write_card:
        check_card(model)
    with silence(quiet, as_json):
        result = verb(
            model,
            parent,
            batch_sizes=batch_sizes,
            lengths=lengths,
            rounds=rounds,
            threads=threads,
            memory=memory,
            device=device,
            trust_remote_code=trust_remote_code,
        )
    if write_card:
        put_card(result, model)
        remark(f"Written into {model / 'README.md'}.", quiet=quiet or as_json)
    said = cost_remark(result)
    parts = (plain_table("Cost", result.header(), result.cells()), conditions(result), said or "")
    answer({**result.as_dict(), "remark": said}, *parts, quiet=quiet, as_json=as_json)
