"""``gaprune data``: check, sample and make calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from gaprune.cli.options import JsonFlag, QuietFlag, pairs, silence
from gaprune.cli.output import say, show, show_json
from gaprune.data.check import check as check_data
from gaprune.data.from_texts import LONGEST, SHORTEST, triplets_from_texts
from gaprune.data.pairs import KINDS
from gaprune.data.pairs import Kind as Kind_data
from gaprune.data.read import read_triplets
from gaprune.data.sampling import CLUSTERS, ITERATIONS
from gaprune.data.sampling import sample as sample_data
from gaprune.data.write import write_triplets
from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.report.tables import check_table, texts_table
from gaprune.util.files import check_file

__all__ = ["app"]

app = typer.Typer(help="Check, sample and make calibration triplets.", no_args_is_help=True)

Columns = Annotated[
    list[str] | None, typer.Option("--column", "--columns", help="NAME=COLUMN for query, positive, negative(s).")
]
Subset = Annotated[str | None, typer.Option(help="Configuration, for a hub data set.")]
Split = Annotated[str | None, typer.Option(help="Split, for a hub data set; train by default.")]
GeneralColumns = Annotated[
    list[str] | None, typer.Option("--general-column", "--general-columns", help="The same for the general data.")
]
TrustRemoteCode = Annotated[bool, typer.Option(help="Let code that comes with the model run.")]


@app.command()
def check(
    domain: Annotated[str, typer.Argument(help="Triplets of the domain: a file, a folder or a hub data set id.")],
    general: Annotated[str | None, typer.Option(help="General triplets, to look for overlap.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="Evaluation tasks, to look for overlap.")] = None,
    model: Annotated[str | None, typer.Option(help="Count lengths in this model's tokens, not in words.")] = None,
    column: Columns = None,
    subset: Subset = None,
    split: Split = None,
    general_column: GeneralColumns = None,
    general_subset: Subset = None,
    general_split: Split = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell size, lengths, duplicates and overlaps of calibration data before they are used.

    Exit code 2 if the data cannot be used: a positive among its own negatives, or nothing that could
    be a negative, of its own or of another triplet.
    """
    embedder = None if model is None else load_model(model, trust_remote_code=trust_remote_code)
    report = check_data(
        read_triplets(domain, columns=pairs(column, "column") or None, subset=subset, split=split),
        general=None
        if general is None
        else read_triplets(
            general,
            columns=pairs(general_column, "general_column") or None,
            subset=general_subset,
            split=general_split,
        ),
        evaluation=None if tasks is None else {task.name: list(task.texts()) for task in find_tasks(tasks)},
        tokenizer_model=embedder,
        prompts=None if embedder is None else resolve_prompts(embedder),
    )
    if as_json:
        show_json(report.as_dict())
    else:
        show(check_table(report))
        for problem in report.problems:
            show(f"problem: {problem}")
    if report.unusable:
        raise DataError(
            f"the data cannot be used as they are: {' '.join(report.unusable)}",
            "Mend or remove these triplets; all other problems are for you to judge.",
        )


@app.command()
def sample(
    source: Annotated[str, typer.Argument(help="Triplets: a file, a folder or a hub data set id.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    model: Annotated[str, typer.Option(help="Small embedding model in whose space texts are clustered.")],
    count: Annotated[
        int, typer.Option(min=1, help="How many triplets: the number of clusters, as in the paper.")
    ] = CLUSTERS,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of k-means.")] = ITERATIONS,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    column: Columns = None,
    subset: Subset = None,
    split: Split = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    quiet: QuietFlag = False,
) -> None:
    """Draw representative triplets: k-means over query embeddings, the text nearest to each centre."""
    check_file(out, overwrite=overwrite)
    triplets = read_triplets(source, columns=pairs(column, "column") or None, subset=subset, split=split)
    embedder = load_model(model, trust_remote_code=trust_remote_code, device=device)
    with silence(quiet, is_json=False):
        drawn = sample_data(
            triplets,
            embedder,
            count=count,
            iterations=iterations,
            seed=seed,
            prompts=resolve_prompts(embedder),
        )
    write_triplets(drawn, out, overwrite=overwrite)
    if not quiet:
        say(f"{len(drawn)} of {len(triplets)} triplets written to {out}.")


@app.command(name="from-texts")
def from_texts(
    source: Annotated[Path, typer.Argument(help="Documents: a .txt, .md or .jsonl file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    queries: Annotated[
        Path | None, typer.Option(help="Queries of your own: records with query, and document (an id) or positive.")
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            help=f"What to make, comma-separated: {', '.join(KINDS)}, query (your own); default: the "
            "first four, or query alone where --queries are given."
        ),
    ] = None,
    negatives: Annotated[int, typer.Option(min=0, help="Negatives of each; 0 makes pairs.")] = 1,
    model: Annotated[str | None, typer.Option(help="Find negatives by this model's embeddings, not by BM25.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Make this many, drawn at random; all by default.")] = None,
    min_words: Annotated[int, typer.Option(min=1, help="Words of a passage, at least.")] = SHORTEST,
    max_words: Annotated[int, typer.Option(min=1, help="Words of a passage, at most.")] = LONGEST,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    trust_remote_code: TrustRemoteCode = False,
    device: Annotated[str | None, typer.Option(help="Torch device.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make triplets from plain documents: titles, headings and sentences become queries, offline."""
    check_file(out, overwrite=overwrite)
    with silence(quiet, as_json):
        made = triplets_from_texts(
            source,
            queries=queries,
            kinds=None if kinds is None else [cast("Kind_data", kind.strip()) for kind in kinds.split(",")],
            negatives=negatives,
            model=model,
            device=device,
            trust_remote_code=trust_remote_code,
            count=count,
            shortest=min_words,
            longest=max_words,
            seed=seed,
        )
    write_triplets(made.triplets, out, overwrite=overwrite, notes=made.notes())
    if as_json:
        show_json(made.report.as_dict())
    elif not quiet:
        show(texts_table(made.report))
        say(f"{len(made.triplets)} triplets written to {out}.")
