"""``gaprune demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaprune.cli.options import Overwrite, QuietFlag, silence
from gaprune.cli.output import remark, show
from gaprune.data.samples import SampleDomain, sample_evaluation, sample_triplets

if TYPE_CHECKING:
    from gaprune.pipelines.result import Result

__all__ = ["demo"]

_USE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{out}")
print(model.encode(["What does a letter of credit guarantee?"]).shape)
"""

_CRITERIA = ("dai", "dai-paper", "magnitude", "fisher", "fisher-general", "random")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pruned model.")] = Path("demo-output"),
    domain: Annotated[SampleDomain, typer.Option(help="Sample texts used as the domain.")] = "finance",
    sparsity: Annotated[float, typer.Option(help="Fraction of the weights to remove.")] = 0.5,
    triplets: Annotated[int, typer.Option(min=1, help="Calibration triplets from each data set.")] = 96,
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
) -> None:
    """Prune the genuine all-MiniLM-L6-v2 for a sample domain, offline, and compare criteria before reconstruction."""
    from gaprune.evaluation.quality.discovery import find_tasks
    from gaprune.export.folder import check_destination
    from gaprune.models.demo import demo_model
    from gaprune.pipelines.compare import compare
    from gaprune.report.sentences import percent
    from gaprune.report.tables import COMPARISON, plain_table

    check_destination(out, overwrite=overwrite)
    model = demo_model()
    tasks = [task for task in find_tasks(sample_evaluation()) if task.domain in (domain, "general")]
    remark(f"Pruning {percent(sparsity)} of all linear weights of all-MiniLM-L6-v2 for {domain}.", quiet=quiet)

    def keep(result: Result) -> None:
        if result.recipe.criterion == _CRITERIA[0]:
            result.save(out, overwrite=overwrite)

    with silence(quiet, is_json=False):
        comparison = compare(
            model,
            criteria=_CRITERIA,
            tasks=tasks,
            domain=sample_triplets(domain),
            general=sample_triplets("general"),
            on_result=keep,
            targets=("all",),
            sparsity=sparsity,
            triplets=triplets,
            reconstruct=False,  # the criteria are compared, while somebody waits
        )
    if not quiet:
        show(plain_table(COMPARISON, comparison.header(), comparison.rows()))
        show(f"The model pruned by {_CRITERIA[0]} is in {out}. Use it as any other:\n")
        show(_USE.format(out=out))
