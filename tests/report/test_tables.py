"""Tables for the terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from gaprune.cli.output import show
from gaprune.data.checks.check import check
from gaprune.evaluation.cost.footprint import footprint
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.report.markdown import markdown_table
from gaprune.report.sentences import percent
from gaprune.report.tables import evaluation_table, footprint_table, plain_table


def printed(table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def score(task, domain, value, parent=None):
    return Score(task=task, domain=domain, kind="STS", metric="Spearman", value=value, parent=parent, seconds=1.26)


@pytest.mark.parametrize(("fraction", "text"), [(0, "0.00 %"), (0.12345, "12.35 %"), (1, "100.00 %")])
def test_percent(fraction, text):
    assert percent(fraction) == text


def test_markdown():
    assert markdown_table(["a", "b", "c"], [["x|y", "1", "n"], ["z", "", "2"]]) == (
        "| a | b | c |\n| --- | ---: | --- |\n| x\\|y | 1 | n |\n| z |  | 2 |\n"
    )


def test_evaluation_with_and_without_a_parent():
    alone = printed(evaluation_table(Evaluation((score("c", "", 0.25),))))
    assert "parent" not in alone
    assert "0.2500" in alone
    assert "1.3" in alone
    beside = printed(evaluation_table(Evaluation((score("c", "finance", 0.25, 0.5),)), title="Of mine"))
    assert "Of mine" in beside
    assert "-0.2500" in beside
    assert "mean" not in beside, "the mean of one task is its score"


def test_footprint(bert):
    found = footprint(bert)
    text = printed(footprint_table(found))
    assert all(matrix.name in text for matrix in found.linear_layers)
    assert f"{found.parameters:,}" in text
    for line in ("block 0", "block 1", "outside the blocks", "all mlp", "all attention", "all other", "whole model"):
        assert line in text
    assert text.count("░" * 12) == len(found.linear_layers) + 3 + 3 + 1


def test_footprint_by_layer(bert):
    bert[0].model.encoder.layer[1].output.dense.weight.data[:, :24] = 0
    found = footprint(bert)
    layers = found.by_layer()
    assert list(layers) == [0, 1, None]
    assert layers[1] == (layers[0][0], 32 * 24)
    assert layers[0][1] == layers[None][1] == 0
    for place in (0, 1):
        assert sum(each[place] for each in layers.values()) == sum(each[place] for each in found.by_kind().values())


def test_bars_show_the_share(bert):
    bert[0].model.encoder.layer[0].output.dense.weight.data[:, :24] = 0
    lines = printed(footprint_table(footprint(bert))).splitlines()
    line = next(line for line in lines if "layer.0.output.dense" in line)
    assert "50.00 %" in line
    assert "█" * 6 + "░" * 6 in line


def test_calibration_data(toy_triplets):
    header, *rows = check(toy_triplets).rows()
    text = printed(plain_table("Calibration data", header, rows))
    assert "toy.jsonl" in text
    assert "Calibration data" in text


def test_brackets_are_printed(capsys):
    """Names with brackets, as of extras, are not styles."""
    show(plain_table("[a]", ("[b]",), [["pip install 'gaprune[onnx]'"]]), "[c]")
    out = capsys.readouterr().out
    assert all(each in out for each in ("[a]", "[b]", "gaprune[onnx]", "[c]"))
