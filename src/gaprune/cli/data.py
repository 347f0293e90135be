"""``gaprune data``: check, sample and make calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gaprune.cli.files import named
from gaprune.cli.options import Device, JsonFlag, Overwrite, QuietFlag, TrustRemoteCode, silence, with_options
from gaprune.cli.output import answer, remark
from gaprune.config.data import CLUSTERS, ITERATIONS, LONGEST, SHORTEST, DataCheckOptions, DataSampleOptions
from gaprune.data.documents.pairs import KINDS
from gaprune.errors import DataError
from gaprune.util.files import check_file

_WITHOUT_TASKS = (
    "No evaluation tasks were named: --tasks FOLDER looks for their texts in these data. prune, recover "
    "and evaluate read a folder of tasks."
)


@with_options(DataCheckOptions, recipe=False)
def check(
    options: dict[str, Any],
    domain: Annotated[
        str, typer.Argument(help="Triplets (a file, a folder or a hub data set id), or a folder of documents.")
    ],
    general: Annotated[str | None, typer.Option(help="General triplets, to look for overlap.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="Evaluation tasks, to look for overlap.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Count lengths in this model's tokens, not in words.", callback=named)
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    as_json: JsonFlag = False,
) -> None:
    """Report size, lengths, duplicates and overlaps of calibration data before they are used.

    Of documents the triplets are checked that shrink makes of them, and a table says what was left out and why.

    The exit code is 1 if there are problems with which a run would end in a misleading result: texts of the evaluation
    tasks, many contradictions, duplicates or missing texts, or documents with too little text to judge a model. It is
    2 if the data cannot be used: a positive is among its own negatives, there is nothing that could be a negative, of
    its own or of another triplet, or the texts have the prompt already that the model puts before them.
    """
    from gaprune.data.checks.check import check as check_data
    from gaprune.data.documents.from_texts import triplets_from_texts
    from gaprune.data.documents.read import holds_documents, refuse_reading
    from gaprune.data.held_out import planned_text, too_few_to_judge
    from gaprune.data.read import read_domain, read_general
    from gaprune.evaluation.quality.discovery import find_tasks
    from gaprune.models.load import load_model
    from gaprune.models.prompts import resolve_prompts
    from gaprune.report.tables import plain_table

    asked = DataCheckOptions.build(options)
    embedder = None if model is None else load_model(model, trust_remote_code=trust_remote_code)
    made = None
    if holds_documents(domain, asked.columns):
        refuse_reading(domain, asked)
        made = triplets_from_texts(domain)
    triplets = read_domain(domain, asked) if made is None else made.triplets
    report = check_data(
        triplets,
        general=None
        if general is None
        else read_general(
            general,
            columns=asked.general_columns or None,
            subset=asked.general_subset,
            split=asked.general_split,
        ),
        evaluation=None if tasks is None else {task.name: list(task.texts()) for task in find_tasks(tasks)},
        tokenizer_model=embedder,
        prompts=None if embedder is None else resolve_prompts(embedder),
        made=made is not None,
    )
    few = [] if made is None else too_few_to_judge(triplets)
    spoiling = report.spoiling + few
    header, *rows = report.rows()
    grave = {*spoiling, *report.unusable}
    found = dict.fromkeys([*report.problems, *spoiling])
    problems = [f"{'problem' if each in grave else 'warning'}: {each}" for each in found]
    said = [
        *(problems or ["No problem was found."]),
        report.not_found,
        "" if tasks else _WITHOUT_TASKS,
    ]
    if not tasks and not few:
        said.append(planned_text(triplets))
    content = report.as_dict() | ({} if made is None else {"documents": made.report.as_dict()})
    tables = [plain_table("Calibration data", header, rows)]
    if made is not None:
        tables.insert(
            0, plain_table("Documents, and the triplets that shrink makes", ("", "number"), made.report.rows())
        )
    answer(content, *tables, *said, quiet=False, as_json=as_json)
    if report.unusable:
        raise DataError(
            f"the data cannot be used as they are: {' '.join(report.unusable)}",
            "Correct or remove these triplets; all other problems are for you to judge.",
        )
    if spoiling:
        many = "1 problem" if len(spoiling) == 1 else f"{len(spoiling)} problems"
        remark(f"{many} would make the result of a run misleading.")
        raise typer.Exit(1)


@with_options(DataSampleOptions, recipe=False)
def sample(
    options: dict[str, Any],
    source: Annotated[str, typer.Argument(help="Triplets: a file, a folder or a hub data set id.")],
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    model: Annotated[
        str, typer.Option(help="Small embedding model in whose space texts are clustered.", callback=named)
    ],
    count: Annotated[
        int, typer.Option(min=1, help="Number of triplets: that of clusters, as in the paper.")
    ] = CLUSTERS,
    iterations: Annotated[int, typer.Option(min=1, help="Iterations of k-means.")] = ITERATIONS,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
) -> None:
    """Draw representative triplets: k-means over query embeddings, the text nearest to each centre."""
    from gaprune.data.checks.prompts import check_prompts
    from gaprune.data.read import read_domain
    from gaprune.data.sampling import sample as sample_data
    from gaprune.data.triplets import write_triplets
    from gaprune.models.load import load_model
    from gaprune.models.prompts import resolve_prompts

    out = check_file(out, overwrite=overwrite)
    triplets = read_domain(source, DataSampleOptions.build(options))
    embedder = load_model(model, trust_remote_code=trust_remote_code, device=device)
    prompts = resolve_prompts(embedder)
    with silence(quiet, is_json=False):
        check_prompts(embedder, prompts, [triplets])
        drawn = sample_data(triplets, embedder, count=count, iterations=iterations, seed=seed, prompts=prompts)
    write_triplets(drawn, out, overwrite=overwrite)
    remark(f"{len(drawn)} of {len(triplets)} triplets written to {out}.", quiet=quiet)


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
            "first four, or query alone if --queries are given."
        ),
    ] = None,
    negatives: Annotated[int, typer.Option(min=0, help="Negatives of each triplet; 0 makes pairs.")] = 1,
    model: Annotated[
        str | None, typer.Option(help="Find negatives by this model's embeddings, not by BM25.", callback=named)
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of triplets, drawn at random; default: all.")
    ] = None,
    min_words: Annotated[int, typer.Option(min=1, help="Smallest number of words of a passage.")] = SHORTEST,
    max_words: Annotated[int, typer.Option(min=1, help="Largest number of words of a passage.")] = LONGEST,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make triplets from plain documents: titles, headings and sentences become queries, offline."""
    from gaprune.data.documents.from_texts import triplets_from_texts
    from gaprune.data.triplets import write_triplets
    from gaprune.report.tables import plain_table

    out = check_file(out, overwrite=overwrite)
    with silence(quiet, as_json):
        made = triplets_from_texts(
            source,
            queries=queries,
            kinds=None if kinds is None else cast("Any", [kind.strip() for kind in kinds.split(",")]),
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
    table = plain_table("Triplets from texts", ("", "number"), made.report.rows())
    answer(made.report.as_dict(), table, quiet=quiet, as_json=as_json)
    remark(f"{len(made.triplets)} triplets written to {out}.", quiet=quiet or as_json)
