"""``gaprune evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprune import evaluation
from gaprune.cli.options import JsonFlag, QuietFlag, silence
from gaprune.cli.output import show, show_json
from gaprune.errors import ConfigError
from gaprune.evaluation import evaluate_benchmark, find_tasks
from gaprune.files import check_file, write_json
from gaprune.models import load_model, resolve_prompts
from gaprune.report import evaluation_table

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[str, typer.Argument(help="Model to evaluate: a folder or a hub id.")],
    tasks: Annotated[
        Path | None, typer.Option(help="Folder of tasks: BEIR folders, STS, pair, triplet and classification files.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="An mteb benchmark (ChemTEB), task names, or finance (mteb's finance tasks); extra mteb."),
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Evaluate this model too and show it beside.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts encoded at a time.")] = 64,
    query_prompt: Annotated[str | None, typer.Option(help="Text put before queries instead of the model's.")] = None,
    passage_prompt: Annotated[
        str | None, typer.Option(help="Text put before passages instead of the model's.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Cut texts at this many tokens.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="Let code that comes with the model run.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure a model's quality on your own tasks or an mteb benchmark, beside its parent if named."""
    if (tasks is None) == (benchmark is None):
        raise ConfigError("tasks, benchmark: give exactly one of them.", "Use --tasks FOLDER or --benchmark NAME.")
    if benchmark is not None and (query_prompt, passage_prompt) != (None, None):
        raise ConfigError(
            "query_prompt, passage_prompt: mteb takes the prompts of the model itself.",
            "Leave them out with --benchmark, or save the model with other prompts.",
        )
    if out is not None:
        check_file(out, overwrite=True)
    found = None if tasks is None else find_tasks(tasks)
    models = [
        None
        if name is None
        else load_model(name, trust_remote_code=trust_remote_code, device=device, max_length=max_length)
        for name in (model, parent)
    ]
    with silence(quiet, as_json):
        child, dense = models
        if child is None:
            raise ConfigError("model: none is named.", "Name a model folder or a hub id.")
        if found is None:
            result = evaluate_benchmark(child, str(benchmark), parent=dense, batch_size=batch_size)
        else:
            own = (query_prompt, passage_prompt) == (None, None)
            prompts = None if own else resolve_prompts(child, query=query_prompt, passage=passage_prompt)
            result = evaluation.evaluate(child, found, prompts=prompts, parent=dense, batch_size=batch_size)
    if out is not None:
        write_json(out, result.as_dict())
    if as_json:
        show_json(result.as_dict())
    elif not quiet:
        show(evaluation_table(result))
