"""``gaprune demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaprune.cli.options import Overwrite, QuietFlag, silence
from gaprune.cli.output import remark, show
from gaprune.data.samples import SampleDomain, sample_evaluation, sample_triplets

if TYPE_CHECKING:
    from rich.console import RenderableType

_USE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{out}")
print(model.encode(["What does a letter of credit guarantee?"]).shape)
"""

_CRITERIA = ("dai", "dai-paper", "magnitude", "random")

_QUICK = {
    "prune": {"triplets": 48, "layer_triplets": 16, "reconstruction_triplets": 32},
    "recover": {"tokens": 60_000, "steps": 20},
    "held_out": 0.25,
    "minutes": 240.0,
    "runtime": "torch",
}
"""What keeps the smaller model of the demonstration quick: small samples, little training, and no other runtime.

The time is so long that no machine is too slow."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the smaller model.")] = Path("demo-output"),
    domain: Annotated[SampleDomain, typer.Option(help="Sample texts used as the domain.")] = "finance",
    speedup: Annotated[float, typer.Option(help="How many times faster the model becomes.")] = 2.0,
    sparsity: Annotated[float, typer.Option(help="Fraction of the weights to remove in the comparison.")] = 0.5,
    triplets: Annotated[int, typer.Option(min=1, help="Calibration triplets of the comparison.")] = 64,
    overwrite: Overwrite = False,
    quiet: QuietFlag = False,
) -> None:
    """Shrink the genuine all-MiniLM-L6-v2 for a sample domain, offline; then compare criteria as the paper does."""
    from gaprune.export.folder import check_destination
    from gaprune.models.demo import demo_model

    check_destination(out, overwrite=overwrite)
    model = demo_model()
    with silence(quiet, is_json=False):
        remark(f"Making all-MiniLM-L6-v2 {speedup:g} times faster for {domain}.", quiet=quiet)
        smaller = _shrink(model, out, domain, speedup, overwrite=overwrite)
        if not quiet:
            show(smaller, f"The smaller model is in {out}. Use it as any other:\n", _USE.format(out=out))
        remark(f"Comparing criteria: {sparsity:.0%} of all linear weights, without reconstruction.", quiet=quiet)
        comparison = _compare(model, domain, sparsity, triplets)
    if not quiet:
        show(comparison)


def _shrink(model: Path, out: Path, domain: SampleDomain, speedup: float, *, overwrite: bool) -> RenderableType:
    """Return the table of the smaller model."""
    from gaprune.pipelines.shrink import shrink
    from gaprune.report.answer import answer_text
    from gaprune.report.shrink import HEADER, shrink_rows
    from gaprune.report.tables import plain_table

    texts = sample_triplets(domain)
    result = shrink(model, domain=texts, out=out, speedup=speedup, overwrite=overwrite, recipe=_QUICK)
    title = answer_text(result.provenance, result.evaluation)
    return plain_table(title, HEADER, shrink_rows(result.provenance, result.evaluation))


def _compare(model: Path, domain: SampleDomain, sparsity: float, triplets: int) -> RenderableType:
    """Return the table of a comparison of criteria."""
    from gaprune.evaluation.quality.discovery import find_tasks
    from gaprune.pipelines.compare import compare
    from gaprune.report.tables import COMPARISON, plain_table

    comparison = compare(
        model,
        criteria=_CRITERIA,
        tasks=find_tasks(sample_evaluation(domain)),
        domain=sample_triplets(domain),
        general=sample_triplets("general"),
        targets=("all",),
        sparsity=sparsity,
        triplets=triplets,
        reconstruct=False,  # the criteria are compared, while somebody waits
    )
    return plain_table(COMPARISON, comparison.header(), comparison.rows())
