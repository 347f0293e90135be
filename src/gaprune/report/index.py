"""What is said about a child's queries in the index of its parent: a table, and whether the index can be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.evaluation.quality.index import SAME_SPACE

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
            rows.append([score.domain or "all", score.task, score.metric, *values, f"{parent:.4f}", *cosines, overlap])
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


def index_text(evaluation: Evaluation, parent: str) -> str:
    """Return whether a child can search the index of the model named ``parent``, and by what measurement.

    It is empty if that was not measured.
    """
    found = evaluation.parent_index()
    if found is None:
        return ""
    if found.dimensions != found.parent_dimensions:
        return (
            f"Same embedding space as {parent}: no. Its embeddings have {found.dimensions} dimensions, the parent's "
            f"{found.parent_dimensions}, so embed all passages again with this model."
        )
    change = "" if found.change is None else f" ({found.metric} {_changed(found)}{_by_domain(evaluation)})"
    said = (
        f"Same embedding space as {parent}: {_verdict(evaluation, found)}{change}. Queries of this model score "
        f"{found.value:.4f} among passages that the parent embedded, where the parent's score "
        f"{found.parent:.4f}; among its own passages they score {found.alone:.4f} "
        f"({found.metric}, mean of {', '.join(dict.fromkeys(found.tasks))})."
    )
    if found.change is None or found.change <= 0:
        return said
    return (
        f"{said} A gain over the parent comes from training on texts or labels of the domain, or from chance, not "
        f"from nearness: the mean cosine of the queries to the parent's is {found.query_cosine:.3f}."
    )


def _verdict(evaluation: Evaluation, found: ParentIndex) -> str:
    """Return whether the index can be kept, why not, and what to do; what the scores call worse is not advised."""
    parts = {domain: evaluation.parent_index(domain) for domain in evaluation.domains}
    if found.same_space:
        is_uncertain = any(each is not None and each.is_uncertain for each in parts.values())
        return f"yes, but there are too few queries to be sure of {SAME_SPACE:.0%}" if is_uncertain else "yes"
    lost = [domain for domain, each in parts.items() if domain and each is not None and not each.same_space]
    where = f" of {' and '.join(lost)}" if lost else ""
    cause = f"no, its queries{where} keep less than {SAME_SPACE:.0%} of the parent's score in the parent's index"
    if found.gains_alone:
        return f"{cause}, so embed all passages again with this model"
    return f"{cause}, but keep the index: with passages that this model embedded it scores no more"


def _by_domain(evaluation: Evaluation) -> str:
    """Return the change in every domain, if there are several."""
    found = {domain: evaluation.parent_index(domain) for domain in evaluation.domains}
    changes = [
        f"{domain} {_changed(each)}" for domain, each in found.items() if each is not None and each.change is not None
    ]
    return f": {', '.join(changes)}" if len(changes) > 1 else ""


def _changed(found: ParentIndex) -> str:
    """Return the change in the parent's index, with its interval if that is known."""
    interval = found.change_interval
    between = "" if interval is None else f" [{interval[0]:+.1%}, {interval[1]:+.1%}]"
    return f"{found.change:+.1%}{between}"


def _change(value: float, parent: float) -> str:
    return f" ({value / parent - 1:+.1%})" if parent else ""
