"""Pictures for a page as inline SVG, whose colours follow the page: dark lines on light, light lines on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gaprune.export.records import Structured
from gaprune.report.figures import draw_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gaprune.evaluation.curves import Curves
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import Recovery, Removed
    from gaprune.recovery.recover_model import Point

_INK = "#010203"
"""Stands for the colour of the page's text."""
_ACCENT = "#3d93d6"
"""A blue that can be seen on light and on dark."""
_STYLE: Any = {
    "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "figure.facecolor": "none", "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
    "font.size": 9, "svg.fonttype": "none", "text.parse_math": False,
}  # fmt: skip
_WIDTH = 4.6
"""Inches, which can be read on a phone."""
_NAME = re.compile(r"(?P<before>.*?\D)\.(?P<block>\d+)\.(?P<kind>.+)")
"""The name of a linear layer in a block."""
_OUTSIDE = "outside"
_LONGEST = 24
"""Letters of a label: of longer names the end is shown."""
_MOST = 9
"""Numbers side by side that can be read."""


def removed_picture(provenance: Provenance) -> str:
    """Return what was removed: a bar for each kind of structure, or the zeros by block and kind of linear layer."""
    pruning = provenance.method.pruning
    if isinstance(pruning, Structured):
        removed = pruning.removed
        return _drawn("removed", 0.7 + 0.45 * len(removed), partial(_bars, removed)) if removed else ""
    cells = {_place(layer): share for layer, share in provenance.sparsity.by_linear_layer.items()}
    blocks = len({block for block, _ in cells})
    return _drawn("removed", 1.6 + 0.24 * blocks, partial(_grid, cells)) if cells else ""


def training_picture(recovery: Recovery, name: str) -> str:
    """Return the held-out loss by step, or how a distillation on texts went; ``name`` is unique on the page.

    It is empty without a held-out set.
    """
    training = recovery.training
    if training.distillation:
        return _drawn(name, 3.0, partial(_distillation, training.distillation, training.best_step, recovery.taught_by))
    return _drawn(name, 2.4, partial(_curve, training.curve, training.best_step)) if training.curve else ""


def _curve(points: Sequence[tuple[int, float]], best: int, axis: Axes) -> None:
    """Draw the held-out loss by step, and a line at the best step."""
    axis.plot(*zip(*points, strict=True), color=_ACCENT, marker="o", markersize=3)
    axis.axvline(best, color=_INK, linewidth=0.8, linestyle=":")
    axis.locator_params(axis="x", integer=True, nbins=6)
    axis.set_xlabel("step (dotted: the step whose weights the model has)")
    axis.set_ylabel("held-out loss")


def _distillation(looks: Sequence[Point], best: int, teacher: str, axis: Axes) -> None:
    """Draw cosine and nDCG on held-out texts and the loss in training by tokens, and a line at the best look."""
    lines: list[Any] = []
    for measure, label, style in (
        ("held_out_cosine", f"cosine to {teacher}", "-"),
        ("held_out_ndcg", "nDCG@10", "--"),
    ):
        points = [(each.tokens, getattr(each, measure)) for each in looks if getattr(each, measure) is not None]
        if points:
            drawn = axis.plot(*zip(*points, strict=True), style, color=_ACCENT, marker="o", markersize=3, label=label)
            lines += drawn
    losses = [(each.tokens, each.loss) for each in looks if each.loss is not None]
    if losses:
        beside = axis.twinx()
        lines += beside.plot(*zip(*losses, strict=True), color=_INK, linewidth=0.8, label="loss in training (right)")
        beside.set_ylim(0, 1.1 * max(loss for _, loss in losses))
        beside.spines["right"].set_visible(True)
    axis.axvline(next(each.tokens for each in looks if each.step == best), color=_INK, linewidth=0.8, linestyle=":")
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("tokens (dotted: those after which the model has its weights)")
    axis.set_ylabel("on held-out texts")
    axis.figure.legend(handles=lines, loc="outside upper left", ncols=3, fontsize=7, frameon=False, handlelength=3)


def _bars(removed: Sequence[Removed], axis: Axes) -> None:
    """Draw a bar for each kind of structure, its removed part filled; layers are filled where they were."""
    for place, each in enumerate(removed):
        layers = each.kept.get("layers")
        gone = [number for number in range(each.total) if number not in layers] if layers is not None else []
        parts = [(number, 1) for number in gone] or [(each.total - each.removed, each.removed)]
        share = 100 / each.total
        axis.broken_barh([(0, 100)], (place - 0.35, 0.7), facecolor="none", edgecolor=_INK, linewidth=0.8)
        axis.broken_barh([(start * share, size * share) for start, size in parts], (place - 0.35, 0.7), color=_ACCENT)
    axis.set_yticks(range(len(removed)), [_short(each.label) for each in removed])
    axis.invert_yaxis()
    axis.set_xlabel("% of the parent (filled: removed)")


def _grid(cells: Mapping[tuple[str, str], float], axis: Axes) -> None:
    """Draw a cell for each linear layer by block and kind, the darker the more of its weights are zero."""
    blocks = list(dict.fromkeys(block for block, _ in cells))
    kinds = list(dict.fromkeys(kind for _, kind in cells))
    for (block, kind), share in cells.items():
        x, y = kinds.index(kind), blocks.index(block)
        axis.broken_barh([(x - 0.5, 1)], (y - 0.5, 1), facecolor=_ACCENT, alpha=0.75 * share, linewidth=0)
        if len(kinds) <= _MOST:
            axis.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=8)
    axis.set_xlim(-0.5, len(kinds) - 0.5)
    axis.set_ylim(len(blocks) - 0.5, -0.5)
    axis.set_xticks(range(len(kinds)), [_short(kind) for kind in kinds], rotation=35, ha="right")
    axis.set_yticks(range(len(blocks)), blocks)
    axis.set_ylabel("block")


def _place(name: str) -> tuple[str, str]:
    """Return the block and the kind of a linear layer."""
    found = _NAME.fullmatch(name)
    return (found["block"], found["kind"]) if found else (_OUTSIDE, name)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def curves_picture(curves: Curves) -> str:
    """Return a figure of a comparison, its panels one below the other."""
    return _svg(curves.name, partial(draw_curves, replace(curves, columns=1)))


def _drawn(name: str, height: float, draw: Callable[[Axes], None]) -> str:
    """Return the element ``svg`` with one pair of axes, which ``draw`` fills."""

    def make() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        return figure

    return _svg(name, make)


def _svg(name: str, make: Callable[[], Figure]) -> str:
    """Return a figure as the element ``svg``; the same drawing gives the same text, with ids of this name."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        make().savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawn = file.getvalue()
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", drawn[drawn.index("<svg") :])
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)
    return drawn.replace(_INK, "currentColor")
