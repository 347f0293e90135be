"""What a benchmark counts is checked against closed forms; of times only that they are taken in turn, and how."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import gaprune
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost import latency
from gaprune.evaluation.cost.footprint import Flops, count_flops
from gaprune.evaluation.cost.latency import Timing, computing_with, time_models
from gaprune.evaluation.cost.memory import measure_memory
from gaprune.evaluation.cost.workload import Workload, texts_of_length
from gaprune.models.encoders import TorchModel
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.pipelines.bench import check_card, write_card
from gaprune.report.cost import benchmark_markdown, remark
from gaprune.report.markdown import put_section
from gaprune.report.tables import plain_table

SMALL = {"batch_sizes": (1, 3), "lengths": (12, 30), "rounds": 3}


@pytest.fixture(scope="module")
def pair(folder_of, tmp_path_factory):
    """A pruned model and its parent."""
    out = tmp_path_factory.mktemp("pruned") / "child"
    gaprune.prune(folder_of("bert"), criterion="magnitude", device="cpu", out=out)
    return out, folder_of("bert")


@pytest.fixture(scope="module")
def benchmark(pair):
    """Both have one shape, and a process that opens one takes seconds: what the first needed is taken for both."""
    asked, measured = [], []

    def once(folder, texts, **options):
        asked.append(Path(folder))
        measured.extend(() if measured else [measure_memory(folder, texts, **options)])
        return measured[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gaprune.pipelines.bench.measure_memory", once)
        found = gaprune.bench(*pair, **SMALL, threads=1)
    assert asked == [*pair]
    return found


class TestFlops:
    def test_closed_form_of_every_family(self, model):
        """Twice the weights of the layers that a token passes; scores and sums of attention; the pooled embedding."""
        layers = linear_layers(model)
        inside = [layer for layer in layers if layer.layer is not None]
        config = model.transformers_model.config
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        found = count_flops(model)
        assert found.linear_layers == 2 * sum(layer.module.weight.numel() for layer in inside)
        assert found.attention == 4 * config.num_attention_heads * head_size * config.num_hidden_layers
        assert found.text == 2 * sum(layer.module.weight.numel() for layer in layers if layer.layer is None)

    def test_eager_attention_is_counted_too(self, bert):
        fused = count_flops(bert)
        bert.transformers_model.config._attn_implementation = "eager"
        assert count_flops(bert) == fused

    def test_closed_form(self, bert):
        """Two layers of width 32 with 48 neurons, and a pooler that sees one token."""
        assert count_flops(bert) == Flops(
            linear_layers=2 * 2 * (4 * 32 * 32 + 2 * 32 * 48), attention=2 * 4 * 32, text=2 * 32 * 32
        )
        assert Flops(linear_layers=10, attention=3, text=40).per_token(4) == 10 + 12 + 10


class TestWorkload:
    def test_texts(self, bert):
        lengths = TorchModel(bert).lengths
        texts = texts_of_length(25, 4, lengths)
        assert len(set(texts)) == 4
        assert all(10 < count <= 25 for count in lengths(texts))

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"batch_sizes": "1,x"}, "^batch_sizes: "),
            ({"lengths": (0,)}, "^lengths: "),
            ({"lengths": ()}, "^lengths: needs at least one number"),
            ({"rounds": 1}, "^rounds: "),
            ({"threads": 0}, "^threads: "),
        ],
    )
    def test_refused_before_anything_is_loaded(self, options, problem):
        with pytest.raises(ConfigError, match=problem):
            gaprune.bench("missing", **options)

    def test_a_device_beside_an_exported_model(self, folder_of, tmp_path):
        (tmp_path / "exported" / "onnx").mkdir(parents=True)
        (tmp_path / "exported" / "onnx" / "model.onnx").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"^device: .*exported is exported and runs on the CPU"):
            gaprune.bench(tmp_path / "exported", folder_of("bert"), device="cuda")

    def test_words_and_numbers(self):
        assert Workload.build({"batch_sizes": "8, 1,8", "lengths": 16}) == Workload.build(
            {"batch_sizes": (1, 8), "lengths": "16"}
        )


class Fake:
    """An encoder that notes when it is called."""

    format = "torch"
    max_length = None

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def encode(self, texts, *, prompt=None, batch_size=32):
        self.calls.append((self.name, len(texts), prompt))
        return np.zeros((len(texts), 2))

    def lengths(self, texts):
        return [len(text.split()) for text in texts]


class TestTiming:
    def test_in_turn_after_one_warm_up(self):
        calls, ticks = [], itertools.count()
        models = [Fake("child", calls), Fake("parent", calls)]
        found = time_models(
            models, Workload.build({"batch_sizes": 2, "lengths": 5, "rounds": 3}), clock=lambda: next(ticks)
        )
        order = ["child", "parent", "child", "parent", "parent", "child", "child", "parent"]
        assert calls == [(name, 2, "") for name in order]
        assert found == [(Timing(2, 5, 10, (1, 1, 1)),), (Timing(2, 5, 10, (1, 1, 1)),)]

    def test_median_and_quartiles(self):
        timing = Timing(4, 8, 32, (5.0, 1.0, 2.0, 4.0, 3.0))
        assert (timing.median, timing.quartiles, timing.texts_per_second) == (3.0, (2.0, 4.0), 4 / 3)

    def test_threads_are_put_back(self):
        before = torch.get_num_threads()
        with computing_with(before + 1) as running:
            assert running == torch.get_num_threads() == before + 1
        assert torch.get_num_threads() == before

    def test_no_text_is_cut(self, pair):
        with pytest.raises(ConfigError, match=r"lengths: 100 tokens are more than .* \(60\)"):
            gaprune.bench(*pair, lengths=100, memory=False)


class TestBenchmark:
    def test_counts(self, benchmark, pair):
        child, parent = benchmark.model, benchmark.parent
        bert = load_model(pair[1], device="cpu")
        assert child.parameters == parent.parameters == sum(parameter.numel() for parameter in bert.parameters())
        assert child.disk == sum(file.stat().st_size for file in pair[0].rglob("*") if file.is_file())
        assert child.flops == parent.flops == count_flops(bert)
        assert benchmark.ratios["parameters"] == benchmark.ratios["FLOPs per token, text of 12"] == 1
        cells = [(12, 1), (12, 3), (30, 1), (30, 3)]
        for cost in (child, parent):
            assert [(timing.length, timing.batch_size) for timing in cost.timings] == cells
            assert all(len(timing.seconds) == 3 and min(timing.seconds) > 0 for timing in cost.timings)
            assert all(0 < timing.tokens <= timing.length * timing.batch_size for timing in cost.timings)

    def test_memory_is_that_of_a_process(self, benchmark):
        for cost in (benchmark.model, benchmark.parent):
            memory = cost.memory
            assert 0 < memory.baseline < memory.resident <= memory.peak
            assert memory.proportional <= memory.resident * 1.05
            assert memory.model == memory.resident - memory.baseline

    def test_rows_and_ratios(self, benchmark):
        names = [row.measure for row in benchmark.rows()]
        assert names[:4] == [
            "parameters",
            "bytes on disk",
            "FLOPs per token, text of 12",
            "FLOPs per token, text of 30",
        ]
        assert {"resident memory", "peak memory", "latency, batch 1, 12 tokens"} <= set(names)
        child, parent = (cost.timings[3] for cost in (benchmark.model, benchmark.parent))
        faster = pytest.approx(parent.median / child.median)
        assert benchmark.ratios["latency, batch 3, 30 tokens"] == faster
        assert benchmark.ratios["throughput, batch 3, 30 tokens"] == faster
        assert benchmark.ratios["bytes on disk"] == benchmark.parent.disk / benchmark.model.disk

    def test_shown_and_kept(self, benchmark):
        markdown = benchmark_markdown(benchmark)
        assert f"|  | child (torch) | {benchmark.parent.name} (torch) | better or worse |" in markdown
        assert "1 thread: median (first to third quartile) of 3 rounds" in markdown
        shown = [row[0] for row in benchmark.cells()]
        assert plain_table("Cost", benchmark.header(), benchmark.cells()).row_count == len(shown) == len(set(shown))
        assert not any("throughput" in name for name in shown), "it stands beside the time that it follows from"
        assert [row[1].count("texts/s") for row in benchmark.cells() if "latency" in row[0]] == [0, 1, 0, 1]
        words = {row[0]: row[3] for row in benchmark.cells()}
        assert words["parameters"] == "1.00 x better"
        assert words["bytes on disk"].endswith("better" if benchmark.ratios["bytes on disk"] >= 1 else "worse")
        alike = replace(benchmark, parent=benchmark.model)
        assert {row[3] for row in alike.cells() if "latency" in row[0]} == {"no difference: quartiles overlap"}
        kept = json.loads(json.dumps(benchmark.as_dict()))
        assert kept["ratios"] == benchmark.ratios
        assert kept["settings"]["rounds"] == 3

    def test_zeros_are_said_to_save_nothing(self, benchmark):
        """Half of the MLP's weights, which have 3/5 of those in matrices with the pooler's."""
        assert benchmark.model.zeros == pytest.approx(0.5 * 6144 / (6144 + 8192 + 1024))
        assert benchmark.parent.zeros == 0
        said = remark(benchmark)
        assert said.startswith("20.0% of the weights in the linear layers")
        assert "neither smaller nor faster" in said
        for option in ("--width", "--hidden", "--depth", "--vocabulary", "--int8", "--to archive"):
            assert option in said
        assert said in benchmark_markdown(benchmark), "so the card has it"
        dense = replace(benchmark, model=benchmark.parent)
        assert remark(dense) is None
        assert "neither smaller" not in benchmark_markdown(dense)

    def test_alone_and_without_memory(self, pair):
        alone = gaprune.bench(pair[0], batch_sizes=1, lengths=12, rounds=2, memory=False)
        assert alone.ratios == {}
        assert alone.model.memory is None
        assert "Memory was not measured" in benchmark_markdown(alone)

    def test_a_child_process_that_fails(self, tmp_path):
        """Here on an empty graph, which needs no PyTorch."""
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
        with pytest.raises(ModelError, match="the process that measures memory failed"):
            measure_memory(tmp_path, ["a"], batch_size=1, device="cpu")

    def test_folders_are_checked_first(self, pair, monkeypatch):
        monkeypatch.setattr(latency, "texts_of_length", lambda *_args: pytest.fail("too late"))
        with pytest.raises(ModelError, match=r"missing is not a folder\."):
            gaprune.bench(pair[0], "missing")


class TestCard:
    def test_put_in_and_replaced(self, benchmark, pair):
        card = pair[0] / "README.md"
        before = card.read_text(encoding="utf-8")
        write_card(benchmark, pair[0])
        once = card.read_text(encoding="utf-8")
        assert once.startswith(before.rstrip())
        assert once.count("## Cost") == once.count("better or worse") == 1
        write_card(benchmark, pair[0])
        assert card.read_text(encoding="utf-8") == once

    def test_sections(self):
        once = put_section("# a\n", "bench", "first")
        assert put_section(once + "after\n", "bench", "second") == once.replace("first", "second") + "after\n"

    def test_only_cards_of_ours(self, pair):
        with pytest.raises(ConfigError, match="write_card: GAPrune did not make"):
            check_card(pair[1])


@pytest.mark.usefixtures("few_texts")
def test_an_exported_model(benchmark, folder_of, tmp_path):
    """Runs in its own runtime, whose process does not load PyTorch."""
    source = folder_of("bert")
    exported = gaprune.export_model(source, to="onnx", out=tmp_path / "onnx")
    found = gaprune.bench(exported.path, source, batch_sizes=1, lengths=12, rounds=2, threads=1, memory=False)
    assert (found.model.format, found.parent.format) == ("onnx", "torch")
    assert found.model.flops == found.parent.flops
    assert found.model.parameters == found.parent.parameters
    memory = gaprune.bench(exported.path, batch_sizes=1, lengths=12, rounds=2, threads=1).model.memory
    assert memory.baseline < benchmark.parent.memory.baseline / 2
