"""Figures of a comparison as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.errors import OutputError
from gaprune.util.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gaprune.evaluation.curves import Curves, Panel

_FORMATS = ("png", "svg")
_WIDTH, _HEIGHT = 4.5, 3.5
"""Inches of a panel."""
_TICKS = 9
"""Numbers under a panel that can be read."""


def write_figures(figures: Sequence[Curves], folder: Path) -> list[Path]:
    """Write each figure as PNG and as SVG to ``folder``; the same numbers give the same files.

    Raises:
        OutputError: If a file cannot be written.
    """
    import matplotlib as mpl

    written = []
    # Without a date and random names, so that files of the same numbers can be compared.
    with mpl.rc_context({"svg.hashsalt": "gaprune"}):
        for curves in figures:
            figure = draw_curves(curves)
            for ending in _FORMATS:
                path = folder / f"{curves.name}.{ending}"
                metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
                try:
                    with replacing(path) as partial:
                        figure.savefig(partial, format=ending, dpi=150, metadata=metadata)
                except OSError as error:
                    raise OutputError(
                        f"{path} cannot be written: {error}", "Name a folder you can write to."
                    ) from error
                written.append(path)
    return written


def draw_curves(curves: Curves) -> Figure:
    """Return the figure: a row of panels for each sparsity that is fixed, a column for each domain."""
    from matplotlib.figure import Figure

    rows = len(curves.panels) // curves.columns
    figure = Figure(figsize=(_WIDTH * curves.columns, _HEIGHT * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, curves.columns, squeeze=False)
    places = {
        label: place for place, label in enumerate(dict.fromkeys(each for p in curves.panels for each in p.lines))
    }
    for axis, panel in zip(axes.flat, curves.panels, strict=True):
        _draw(axis, panel, places)
        axis.set_xlabel(curves.x)
    for axis in axes[:, 0]:
        axis.set_ylabel("mean score")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(2 * curves.columns, len(handles))
    )
    return figure


def _draw(axis: Any, panel: Panel, places: Mapping[str, int]) -> None:
    """Draw a panel; a curve looks the same in all panels, by its place among the names of all."""
    import matplotlib as mpl

    axis.axhline(panel.dense, color=mpl.rcParams["text.color"], linestyle="--", linewidth=1, label="dense")
    for label, points in panel.lines.items():
        axis.errorbar(
            [x for x, _ in points],
            [summary.mean for _, summary in points],
            yerr=[summary.spread or 0.0 for _, summary in points],
            color=f"C{places[label] % 10}",
            linestyle=("-", "--", ":", "-.")[places[label] // 10 % 4],
            marker="o",
            markersize=3,
            capsize=2,
            label=label,
        )
    values = sorted({x for points in panel.lines.values() for x, _ in points})
    if len(values) <= _TICKS:
        axis.set_xticks(values)
    axis.set_title(panel.title)
    axis.grid(alpha=0.3)
