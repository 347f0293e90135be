"""The cost of a model in Markdown, with the conditions of the measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.report.markdown import markdown_table
from gaprune.report.sentences import ZEROS

if TYPE_CHECKING:
    from gaprune.evaluation.cost.benchmark import Benchmark

_NOTABLE = 0.01
"""Any model may have a smaller fraction of zeros than this."""


def conditions(benchmark: Benchmark) -> str:
    """Return what the numbers depend on."""
    settings = benchmark.settings
    memory = (
        "Memory is that of a process that opens one model and encodes the largest batch."
        if benchmark.model.memory is not None
        else "Memory was not measured."
    )
    turns = "" if benchmark.parent is None else ", the models alternating"
    threads = "1 thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    return (
        f"Measured on {settings['processor']}, {settings['device']}, {threads}: median (first to "
        f"third quartile) of {settings['rounds']} rounds after a warm-up{turns}, from texts to embeddings. FLOPs per "
        "token are 2 x weights of the linear layers + 4 x heads x head size x layers x length; zeros count, because "
        f"runtimes multiply them. {memory}"
    )


def remark(benchmark: Benchmark) -> str | None:
    """Return what zeros in the model do not do; ``None`` if it has next to none."""
    zeros = benchmark.model.zeros
    if zeros is None or zeros < _NOTABLE:
        return None
    return (
        f"{zeros:.1%} of the weights in the linear layers of this model are zeros. They are not the cause of any "
        f"difference in time. {ZEROS}"
    )


def benchmark_markdown(benchmark: Benchmark) -> str:
    """Return the table, the conditions and the remark."""
    texts = [conditions(benchmark), remark(benchmark)]
    return markdown_table(benchmark.header(), benchmark.cells()) + "".join(f"\n{text}\n" for text in texts if text)
