"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from gaprune.report.index import INDEX_COLUMNS, SIZE_COLUMNS, index_rows, index_text, size_rows
from gaprune.report.rows import change_text
from gaprune.report.sentences import percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from gaprune.evaluation.cost.footprint import Footprint
    from gaprune.evaluation.quality.scores import Evaluation

COMPARISON = "Mean score by domain (relative change from the model in the first row)"
"""Title of the table of a comparison."""

_BAR = 12

_CHANCE = 0.001
"""Share of zeros that a model may have without having been pruned."""


def _table(title: str, *columns: str, text: int = 1) -> Table:
    """Return an empty table whose first ``text`` columns are aligned left, the others right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < text else "right", overflow="fold")
    return table


def evaluation_table(evaluation: Evaluation, title: str = "Quality") -> Table:
    """Return the scores by task with the means, beside the parent's if there are any."""
    beside = any(score.parent is not None for score in evaluation.scores)
    columns = ("domain", "task", "metric", "score", *(("parent", "change [95 %]") if beside else ()), "seconds")
    table = _table(title, *columns, text=3)
    for row in evaluation.rows():
        is_mean = row["kind"] == "mean"
        values = [row["value"], *((row["parent"],) if beside else ())]
        table.add_row(
            str(row["domain"] or "all"),
            "mean" if is_mean else str(row["task"]),
            str(row["metric"]),
            *("" if value is None else f"{value:.4f}" for value in values),
            *((change_text(row),) if beside else ()),
            f"{row['seconds']:.1f}",
            style="bold" if is_mean else None,
        )
    return table


def evaluation_parts(evaluation: Evaluation, parent: str = "its parent") -> Iterator[Table | str]:
    """Yield the scores by task and, where the model was tried in the index of ``parent``, the scores there."""
    yield evaluation_table(evaluation)
    rows, said = index_rows(evaluation), index_text(evaluation, parent)
    if rows:
        table = _table("In the parent's index: this model's queries, the parent's passages", *INDEX_COLUMNS, text=3)
        for row in rows:
            table.add_row(*row)
        yield table
    if said:
        yield said
    if evaluation.sizes:
        table = _table("Size of the index: mean of the retrieval tasks", *SIZE_COLUMNS, text=3)
        for row in size_rows(evaluation):
            table.add_row(*row)
        yield table


def plain_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return rows of text under a header."""
    table = _table(title, *header)
    for row in rows:
        table.add_row(*row)
    return table


def inspection_table(footprint: Footprint, selected: Collection[str] = ()) -> Table:
    """Return the zeros by linear layer of a model that has such, and the shapes of its layers otherwise."""
    zeros = sum(each.zeros for each in footprint.linear_layers)
    weights = sum(each.size for each in footprint.linear_layers)
    return footprint_table(footprint, selected) if zeros > _CHANCE * weights else _shapes_table(footprint)


def _shapes_table(footprint: Footprint) -> Table:
    """Return the linear layers by name and shape, and the weights by block; blocks of one size share a row."""
    table = _table(
        "Linear layers by shape, and weights by block", "name", "kind", "shape", "layers", "weights", text=2
    )
    total = 0
    for (name, kind, shape), (count, size) in footprint.by_shape().items():
        table.add_row(name, kind, " x ".join(map(str, shape or ())), f"{count}", f"{count * size:,}")
        total += count * size
    table.add_section()
    sizes = {layer: size for layer, (size, _) in footprint.by_layer().items() if layer is not None}
    for size in dict.fromkeys(sizes.values()):
        blocks = [layer for layer, each in sizes.items() if each == size]
        named = (
            f"each of {len(blocks)} blocks" if len(blocks) == len(sizes) else f"block {', '.join(map(str, blocks))}"
        )
        table.add_row(named, "", "", "", f"{size:,}")
    table.add_row("all but linear layers, such as embeddings", "", "", "", f"{footprint.parameters - total:,}")
    table.add_section()
    table.add_row("whole model", "", "", "", f"{footprint.parameters:,}")
    return table


def footprint_table(footprint: Footprint, selected: Collection[str] = ()) -> Table:
    """Return size, zeros and a bar for every linear layer, block, kind and the whole model.

    If ``selected`` names linear layers, the others are dimmed: they were not up for pruning.
    """
    table = _table("Zeros by linear layer, block and kind", "name", "kind", "weights", "zeros", "sparsity", "", text=2)
    table.columns[-1].justify = "left"

    def add(name: str, kind: str, size: int, zeros: int, style: str | None = None) -> None:
        share = zeros / size
        filled = round(share * _BAR)
        bar = "█" * filled + "░" * (_BAR - filled)
        table.add_row(name, kind, f"{size:,}", f"{zeros:,}", percent(share), bar, style=style)

    for each in footprint.linear_layers:
        dim = bool(selected) and each.name not in selected
        add(each.name, each.kind, each.size, each.zeros, "dim" if dim else None)
    table.add_section()
    for layer, (size, zeros) in footprint.by_layer().items():
        add("outside the blocks" if layer is None else f"block {layer}", "", size, zeros)
    table.add_section()
    for kind, (size, zeros) in footprint.by_kind().items():
        add(f"all {kind}", kind, size, zeros)
    table.add_section()
    add("whole model", "", footprint.parameters, footprint.zeros)
    return table
