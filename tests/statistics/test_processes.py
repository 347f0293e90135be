"""Two processes measure what one does: each with the whole model, and each with a shard of it."""

from __future__ import annotations

import json
import os

import pytest
import torch
from other_process import PROJECTED, STATISTICS, measure_once
from safetensors.torch import load_file

from gaprune.errors import MeasurementError
from gaprune.pruning.scores import Scores
from gaprune.statistics.checkpoint import StatisticsFiles
from gaprune.util.distributed import gather, rank, world_size
from launched import command, together
from plain_loop import close
from toys import GENERAL, triplets_file


@pytest.fixture(scope="module")
def data(tmp_path_factory, toy_triplets):
    return triplets_file(tmp_path_factory.mktemp("data") / "toy.jsonl", toy_triplets)


@pytest.fixture(scope="module")
def alone(folder_of, data, tmp_path_factory):
    """The sums of one process."""
    out = tmp_path_factory.mktemp("alone") / "sums"
    assert together(1, measure_once, folder_of("qwen3"), data, out, batch_size=2) == [0]
    return load_file(f"{out}-0")


@pytest.mark.parametrize(
    "how", [{}, {"passes": 3}, {"placement": "shard"}, {"placement": "shard", "passes": 2}, {"placement": "offload"}]
)
def test_two_equal_one(folder_of, data, alone, tmp_path, how):
    codes = together(2, measure_once, folder_of("qwen3"), data, tmp_path / "sums", batch_size=2, **how)
    assert codes == [0, 0]
    for index in range(2):
        found = load_file(tmp_path / f"sums-{index}")
        assert found.keys() == alone.keys()
        for name, expected in alone.items():
            close(found[name], expected, 1e-6)


@pytest.mark.parametrize("placement", ["whole", "shard"])
def test_two_project_as_one(folder_of, data, tmp_path, placement):
    """Second moments of projections, and beside statistics of the other backward."""
    both = {*PROJECTED, *STATISTICS}
    arguments = {"statistics": both, "batch_size": 2, "placement": placement}
    assert together(2, measure_once, folder_of("bert"), data, tmp_path / "two", **arguments) == [0, 0]
    arguments = {"statistics": PROJECTED, "batch_size": 2}
    assert together(1, measure_once, folder_of("bert"), data, tmp_path / "one", **arguments) == [0]
    found, expected = load_file(tmp_path / "two-1"), load_file(tmp_path / "one-0")
    sums = {name for name in expected if name.endswith("_sum")}
    assert any(name.endswith("output_gram_sum") for name in sums)
    for name in sums:
        close(found[name], expected[name], 1e-6)


def test_more_processes_than_batches(folder_of, data, alone, tmp_path):
    whole = together(1, measure_once, folder_of("qwen3"), data, tmp_path / "one")
    codes = together(2, measure_once, folder_of("qwen3"), data, tmp_path / "sums", placement="shard")
    assert whole + codes == [0, 0, 0]
    expected = load_file(tmp_path / "one-0")
    for name, found in load_file(tmp_path / "sums-1").items():
        close(found, expected[name], 1e-6)


def test_both_resume(folder_of, data, alone, tmp_path):
    arguments = (folder_of("qwen3"), data, tmp_path / "sums")
    for _ in range(2):
        assert together(2, measure_once, *arguments, checkpoint=tmp_path / "kept", batch_size=2) == [0, 0]
    paths = sorted((tmp_path / "kept").rglob("*.safetensors"))
    assert [path.parent.name for path in paths] == ["process-1-of-2", "process-2-of-2"]
    shares = [StatisticsFiles([path])["layers.0.mlp.down_proj"].triplets for path in paths]
    assert sum(shares) == 7
    assert all(shares)
    found = load_file(tmp_path / "sums-0")
    for name, expected in alone.items():
        close(found[name], expected, 1e-6)


@pytest.fixture
def pruned(folder_of, data):
    """Return the function that prunes in so many processes, checks what they print, and gives what is written."""
    general = triplets_file(data.with_name("general.jsonl"), GENERAL)

    def run(count, folder, *more):
        out, scores = folder / "pruned", folder / "scores.safetensors"
        files = ("--domain", str(data), "--general", str(general), "--out", str(out))
        files += () if "--width" in more else ("--set", f"scores={scores}")
        words = ("prune", str(folder_of("bert")), *files, "--set", "batch_size=2", "--json", *more)
        folder.mkdir()
        assert together(count, command, folder / "printed", *words) == [0] * count
        printed = [(folder / f"printed-{index}.out").read_text() for index in range(count)]
        assert not any(printed[1:])
        [found] = json.loads(printed[0])
        assert found["sparsity"]["removed"] > 0
        assert (out / "gaprune.json").is_file()
        return load_file(out / "model.safetensors"), {} if "--width" in more else Scores.load(scores).importances

    return run


@pytest.mark.parametrize(
    ("more", "placement"),
    [((), "shard"), (("--width", "0.5", "--set", "round_to=8"), "whole")],
    ids=["weights", "width"],
)
def test_the_command_writes_once(pruned, tmp_path, more, placement):
    """The model, and the scores where single weights go, are those of one process; a single one writes.

    Sums of either placement are compared above.
    """
    alone = pruned(1, tmp_path / "one", *more)
    weights, importances = pruned(2, tmp_path / "two", "--set", f"placement={placement}", *more)
    assert weights.keys() == alone[0].keys()
    for name, expected in alone[0].items():
        torch.testing.assert_close(weights[name], expected, atol=1e-5, rtol=1e-5)
    assert importances.keys() == alone[1].keys()
    for name, expected in alone[1].items():
        close(importances[name], expected, 1e-6)


def test_one_process_needs_no_group():
    assert (rank(), world_size(), gather("x")) == (0, 1, ["x"])


def test_a_process_that_ends_early_ends_the_others(folder_of, data, tmp_path):
    codes = together(2, _ends_early, folder_of("bert"), data, tmp_path / "sums", batch_size=2)
    assert codes == [3, 4]


def _ends_early(*arguments, **options):
    from gaprune.util import distributed as processes

    if os.environ["RANK"] == "0":
        processes.join_process_group()
        os._exit(3)
    with pytest.raises(MeasurementError, match=r"Another process ended before its part was measured.*\n.*--resume"):
        measure_once(*arguments, **options)
    os._exit(4)
