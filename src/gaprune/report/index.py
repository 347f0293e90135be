"""What is said about a child's queries in the index of its parent: a table, and whether the index can be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gaprune.evaluation.quality.index import ParentIndex
    from gaprune.evaluation.quality.scores import Evaluation

INDEX_COLUMNS = (
    "domain", "task", "metric", "alone", "in the parent's index", "parent", "cosine of queries", "of passages",
    "common top 10",
)  # fmt: skip


def index_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a row for every task that was scored in the parent's index; changes are against the parent's score."""
    rows = []
    for score in evaluation.scores:
        found, parent = score.index, score.parent
        if found is not None and parent is not None:
            values = [f"{value:.4f}{_change(value, parent)}" for value in (score.value, found.value)]
            overlap = "" if found.overlap is None else f"{found.overlap:.1%}"
            cosines = [f"{cosine:.3f}" for cosine in (found.query_cosine, found.passage_cosine)]
            rows.append([score.domain, score.task, score.metric, *values, f"{parent:.4f}", *cosines, overlap])
    return rows


SIZE_COLUMNS = ("dimensions", "shortened by", "numbers", "bytes per passage", "nDCG@10")


def size_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return a row for every kind of index; changes are against the model's own embeddings."""
    sizes = evaluation.sizes
    return [
        [
            str(each.dimensions),
            each.reduction,
            "binary, rescored" if each.numbers == "binary" else each.numbers,
            f"{each.bytes:,.0f}",
            f"{each.value:.4f}{_change(each.value, sizes[0].value) if each is not sizes[0] else ''}",
        ]
        for each in sizes
    ]


def index_text(found: ParentIndex, parent: str) -> str:
    """Return whether a child is in the embedding space of the model named ``parent``, and by what measurement."""
    if found.dimensions != found.parent_dimensions:
        return (
            f"Same embedding space as {parent}: no, embed all passages again with this model. Its embeddings have "
            f"{found.dimensions} dimensions, the parent's {found.parent_dimensions}."
        )
    verdict = "yes" if found.same_space else "no, embed all passages again with this model"
    change = "" if found.change is None else f" ({found.metric} {found.change:+.1%})"
    return (
        f"Same embedding space as {parent}: {verdict}{change}. Queries of this model score {found.value:.4f} among "
        f"passages that the parent embedded, where the parent's score {found.parent:.4f}; among its own passages "
        f"they score {found.alone:.4f} ({found.metric}, mean of {', '.join(dict.fromkeys(found.tasks))})."
    )


def _change(value: float, parent: float) -> str:
    return f" ({value / parent - 1:+.1%})" if parent else ""
