"""Figures are drawn from the numbers, the same ones into the same files."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from gaprune.errors import OutputError
from gaprune.evaluation.comparison import Summary
from gaprune.evaluation.curves import Curves, Panel
from gaprune.report.figures import draw_curves, write_figures

LINES = {
    "dai": [(0.5, Summary(0.6, 0.01, -0.1)), (0.7, Summary(0.4, None, -0.3))],
    "magnitude": [(0.5, Summary(0.5, None, None)), (0.7, Summary(0.3, None, None))],
}
CURVES = Curves(
    "by-sparsity", "sparsity", [Panel("finance", 0.65, LINES), Panel("general", 0.7, {"dai": LINES["dai"]})], 2
)


def test_files(tmp_path):
    written = write_figures([CURVES], tmp_path / "new")
    assert [path.name for path in written] == ["by-sparsity.png", "by-sparsity.svg"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert ET.parse(written[1]).getroot().tag.endswith("svg")  # noqa: S314 (our own file)
    again = write_figures([CURVES], tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_what_is_drawn():
    drawn = draw_curves(CURVES)
    finance, general = drawn.axes
    assert (finance.get_title(), finance.get_xlabel(), general.get_title()) == ("finance", "sparsity", "general")
    lines = {line.get_label(): line for line in finance.lines}
    assert list(lines["dense"].get_ydata()) == [0.65, 0.65]
    dai, magnitude = (bars[0] for bars in finance.containers)
    assert dai.get_xydata().tolist() == [[0.5, 0.6], [0.7, 0.4]]
    assert magnitude.get_xydata().tolist() == [[0.5, 0.5], [0.7, 0.3]]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dense", "dai", "magnitude"]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"by-sparsity\.png cannot be written"):
        write_figures([CURVES], tmp_path / "file")
