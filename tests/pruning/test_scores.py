"""Scores: asked at any budget, kept on disk bit by bit, and refused when the file is not what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gaprune.config.measurement import MeasurementOptions
from gaprune.criteria.magnitude import Magnitude
from gaprune.criteria.registry import create
from gaprune.errors import ConfigError, MeasurementError, OutputError
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.prompts import Prompts
from gaprune.pruning.allocation import keep_masks
from gaprune.pruning.scores import Scores
from gaprune.pruning.scoring import score, writing_scores
from gaprune.statistics.measure import measure
from plain_loop import joint_loss


@pytest.fixture
def scores() -> Scores:
    torch.manual_seed(0)
    importances = {"a": torch.randn(6, 8) * 1e-9, "b": torch.rand(4, 8) + 1, "c": torch.randn(8, 4) * 1e6}
    return Scores(
        criterion="obd",
        options={"calibration": "mix"},
        importances=importances,
        layers={"a": 0, "b": 1, "c": None},
        origin={"parent": "abc", "prompts": ["query: ", ""], "seed": None},
    )


@pytest.fixture
def measured(bert, toy_triplets):
    """Scores of the tiny BERT by any criterion, from domain data."""

    def make(name: str) -> tuple[Scores, dict[str, torch.Tensor]]:
        chosen = select(linear_layers(bert), ["mlp"])
        criterion = create(name).for_run({"domain"}, reconstructs=True)
        statistics = measure(
            bert,
            toy_triplets,
            chosen,
            statistics=criterion.weight_needs.domain,
            prompts=Prompts(),
            options=MeasurementOptions(),
        )
        made = score(chosen, criterion, name, domain=statistics, general=None, seed=0)
        return made, {matrix.name: matrix.module.weight.detach() for matrix in chosen}

    return make


def test_inputs_are_seen_centred_in_matrices_that_write_to_the_residual_stream(bert, measured):
    (centred, _), (plain, _) = measured("dai"), measured("dai:centred=false")
    for matrix in select(linear_layers(bert), ["mlp"]):
        means = plain.second_moments[matrix.name] - centred.second_moments[matrix.name]
        noise = 1e-5 * plain.second_moments[matrix.name].norm()
        assert torch.linalg.matrix_rank(means, atol=noise, rtol=1e-3) == int(matrix.writes_residual)


class TestAsking:
    @pytest.mark.parametrize("sparsity", [0.01, 0.3, 0.5, 0.999])
    @pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
    def test_the_count_is_exact(self, scores, sparsity, allocation):
        keep = scores.decide({}, sparsity=sparsity, allocation=allocation).keep
        assert sum(int((~mask).sum()) for mask in keep.values()) == round(sparsity * 112)
        wanted = keep_masks(scores.importances, scores.layers, sparsity=sparsity, allocation=allocation)
        assert all(torch.equal(keep[name], wanted[name]) for name in wanted)

    def test_the_criterions_own_allocation_is_the_default(self, scores):
        default, other = (scores.decide({}, sparsity=0.5, allocation=each).keep for each in (None, "global"))
        assert torch.equal(default["a"], other["a"])
        by_row = Scores("wanda", {}, scores.importances, scores.layers)
        assert (by_row.decide({}, sparsity=0.5).keep["b"].sum(dim=1) == 4).all()

    def test_masks_are_nested_as_the_budget_grows(self, scores):
        few, many = (scores.decide({}, sparsity=sparsity).keep for sparsity in (0.3, 0.6))
        assert all((few[name] | ~many[name]).all() for name in few)

    @pytest.mark.parametrize("sparsity", [0.31, 0.35, 0.5])
    @pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
    def test_what_went_before_goes_first(self, scores, tmp_path, allocation, sparsity):
        gone = Scores("magnitude", {}, {name: -values for name, values in scores.importances.items()}, scores.layers)
        before = gone.decide({}, sparsity=0.3, allocation=allocation).keep
        scores.save(tmp_path / "scores.safetensors")
        stored = Scores.load(tmp_path / "scores.safetensors").after(before)
        after = stored.decide({}, sparsity=sparsity, allocation=allocation).keep
        assert sum(int((~mask).sum()) for mask in after.values()) == round(sparsity * 112)
        assert all((before[name] | ~after[name]).all() for name in before)
        again = scores.after(before).decide({}, sparsity=sparsity, allocation=allocation).keep
        assert all(torch.equal(after[name], again[name]) for name in after)

    @pytest.mark.parametrize("name", ["sparsegpt", "dai"])
    def test_a_choice_on_moments_revives_nothing(self, measured, name):
        scores, weights = measured(name)
        draw = torch.Generator().manual_seed(0)
        before = {name: torch.rand(value.shape, generator=draw) > 0.3 for name, value in weights.items()}
        after = scores.after(before).decide(weights, sparsity=0.6)
        assert after.zeros == round(0.6 * after.size)
        assert all((before[name] | ~after.keep[name]).all() for name in before)
        assert not all(
            (before[name] | ~mask).all() for name, mask in scores.decide(weights, sparsity=0.6).keep.items()
        )

    def test_a_sweep_over_a_matrix_has_no_other_allocation(self, scores):
        sweeping = Scores("sparsegpt", {}, scores.importances, scores.layers)
        with pytest.raises(
            ConfigError, match=r"^allocation: sparsegpt updates weights in one sweep over a linear layer"
        ):
            sweeping.decide({}, sparsity=0.5, allocation="global")

    @pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
    def test_exchanges_keep_the_budget_and_lose_less(self, measured, allocation):
        scores, weights = measured("dai")
        plain = keep_masks(scores.importances, scores.layers, sparsity=0.6, allocation=allocation)
        found = scores.decide(weights, sparsity=0.6, allocation=allocation).keep
        for name, keep in found.items():
            assert (keep.sum(1) == plain[name].sum(1)).all()
        losses = [
            sum(joint_loss(weights[name], scores.second_moments[name], keep[name]).sum() for name in weights)
            for keep in (found, plain)
        ]
        assert losses[0] < 0.9 * losses[1]

    def test_exchanges_keep_patterns(self, measured):
        scores, weights = measured("dai")
        for mask in scores.decide(weights, sparsity=0.5, pattern=(2, 4)).keep.values():
            assert (mask.reshape(-1, 4).sum(dim=1) == 2).all()

    def test_a_pattern_decides_for_itself(self, scores):
        pruning = scores.decide({}, sparsity=0.5, pattern=(1, 4))
        for mask in pruning.keep.values():
            assert (mask.reshape(-1, 4).sum(dim=1) == 1).all()
        assert not pruning.weights

    def test_a_reconstruction_needs_its_grams_and_updates(self, measured):
        scores, weights = measured("sparsegpt")
        assert scores.second_moments.keys() == scores.importances.keys()
        pruning = scores.decide(weights, sparsity=0.3)
        assert pruning.zeros == round(0.3 * pruning.size)
        assert pruning.weights.keys() == weights.keys()

    def test_a_pattern_that_does_not_fit_names_the_matrix(self, measured):
        scores, weights = measured("sparsegpt")
        with pytest.raises(ConfigError, match=r"granularity 2:5: \S+intermediate\.dense has 32 inputs"):
            scores.decide(weights, sparsity=0.6, pattern=(2, 5))


class _Read(Mapping):
    """Importances that lie in a file, as far as a decision can tell; counts how often each is read."""

    def __init__(self, values):
        self.values_by_name, self.reads = values, Counter()
        self.shapes = {name: each.shape for name, each in values.items()}

    def __getitem__(self, name):
        self.reads[name] += 1
        return self.values_by_name[name]

    def __iter__(self):
        return iter(self.values_by_name)

    def __len__(self):
        return len(self.values_by_name)


@pytest.mark.parametrize("later_round", [False, True])
@pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
def test_importances_are_read_twice_for_the_threshold_and_once_to_apply_it(scores, allocation, later_round):
    stored = _Read(scores.importances)
    asked = replace(scores, importances=stored)
    if later_round:
        asked = asked.after({name: torch.rand(each.shape) > 0.1 for name, each in scores.importances.items()})
    asked.decide({}, sparsity=0.5, allocation=allocation)
    assert set(stored.reads.values()) == {1 if allocation == "row" else 3}


class TestScoring:
    def test_importances_are_the_criterions(self, bert):
        chosen = select(linear_layers(bert), ["attention"])
        made = score(chosen, Magnitude(), "magnitude", domain=None, general=None, seed=0)
        assert made.criterion == "magnitude"
        assert made.layers == {matrix.name: matrix.layer for matrix in chosen}
        for matrix in chosen:
            assert torch.equal(made.importances[matrix.name], matrix.module.weight.detach().abs())
            assert not made.importances[matrix.name].requires_grad

    @pytest.mark.parametrize("value", [torch.nan, -torch.inf])
    def test_a_weight_that_is_not_finite_is_named(self, bert, value):
        chosen = select(linear_layers(bert), ["mlp"])
        with torch.no_grad():
            chosen[2].module.weight[1, 1] = value
        with pytest.raises(MeasurementError) as caught:
            score(chosen, Magnitude(), "magnitude", domain=None, general=None, seed=0)
        assert caught.value.problem == (
            f"{chosen[2].name}: the importance (magnitude) is not finite; nor are the weights."
        )
        assert caught.value.remedy.endswith(f"--set ignore={chosen[2].name}")

    def test_an_importance_that_overflows_is_not_blamed_on_the_weight(self, bert):
        class Overflowing(Magnitude):
            def importance(self, evidence):
                return evidence.weight / 0

        with pytest.raises(MeasurementError, match="is not finite; the weights are"):
            score(select(linear_layers(bert), ["mlp"]), Overflowing(), "x", domain=None, general=None, seed=0)


class TestWritingAsTheyAreMade:
    @pytest.mark.parametrize("name", ["obd", "magnitude", "sparsegpt"])
    def test_group_by_group_is_all_at_once(self, bert, toy_triplets, tmp_path, name):
        chosen = select(linear_layers(bert), ["all"])
        criterion = create(name)

        def statistics(group):
            needs = criterion.weight_needs.domain
            if not needs:
                return None
            return measure(
                bert, toy_triplets, group, statistics=needs, prompts=Prompts(), options=MeasurementOptions()
            )

        at_once = score(chosen, criterion, name, domain=statistics(chosen), general=None, seed=3)
        replace(at_once, origin={"seed": 3}).save(tmp_path / "at-once")
        options = {"seed": 3, "origin": {"seed": 3}}
        with writing_scores(tmp_path / "grouped", chosen, criterion, name, **options) as write:
            for group in (chosen[7:], chosen[:3], chosen[3:7]):
                write(group, statistics(group), None)
        assert (tmp_path / "grouped").read_bytes() == (tmp_path / "at-once").read_bytes()

    def test_a_group_that_is_missing_is_no_file(self, bert, tmp_path):
        chosen = select(linear_layers(bert), ["mlp"])
        with (
            pytest.raises(ValueError, match=rf"not written: importance\.{chosen[1].name}, "),
            writing_scores(tmp_path / "scores", chosen, Magnitude(), "magnitude", seed=0) as write,
        ):
            write(chosen[:1], None, None)
        assert not list(tmp_path.iterdir())

    def test_an_importance_that_is_not_finite_is_no_file(self, bert, tmp_path):
        chosen = select(linear_layers(bert), ["mlp"])
        with torch.no_grad():
            chosen[1].module.weight[0, 0] = torch.nan
        with (
            pytest.raises(MeasurementError, match=rf"^{chosen[1].name}: the importance"),
            writing_scores(tmp_path / "scores", chosen, Magnitude(), "magnitude", seed=0) as write,
        ):
            write(chosen, None, None)
        assert not list(tmp_path.iterdir())


class TestKeeping:
    @pytest.mark.parametrize("allocation", ["global", "layer", "matrix", "row"])
    def test_what_is_read_from_the_file_decides_as_what_is_in_memory(self, scores, tmp_path, allocation):
        scores.save(tmp_path / "scores")
        kept = Scores.load(tmp_path / "scores")
        held = Scores(kept.criterion, kept.options, dict(kept.importances), kept.layers)
        first, second = (each.decide({}, sparsity=0.4, allocation=allocation).keep for each in (kept, held))
        assert all(torch.equal(first[name], second[name]) for name in scores.importances)
        (tmp_path / "scores").unlink()
        with pytest.raises(ConfigError, match="can no longer be read"):
            kept.decide({}, sparsity=0.4)

    def test_float32_is_bit_identical(self, scores, tmp_path):
        scores.save(tmp_path / "deep" / "scores.safetensors")
        loaded = Scores.load(tmp_path / "deep" / "scores.safetensors")
        assert (loaded.criterion, loaded.options, loaded.layers) == (scores.criterion, scores.options, scores.layers)
        assert loaded.origin == scores.origin
        assert list(loaded.importances) == list(scores.importances)
        for name, values in scores.importances.items():
            assert torch.equal(loaded.importances[name].view(torch.int32), values.view(torch.int32))
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.safetensors"]

    def test_grams_are_kept(self, measured, tmp_path):
        scores, weights = measured("sparsegpt")
        scores.save(tmp_path / "scores.safetensors")
        loaded = Scores.load(tmp_path / "scores.safetensors")
        assert all(torch.equal(loaded.second_moments[name], gram) for name, gram in scores.second_moments.items())
        first, second = (each.decide(weights, sparsity=0.5) for each in (scores, loaded))
        assert all(torch.equal(first.weights[name], second.weights[name]) for name in weights)

    def test_a_failure_leaves_the_old_file_and_nothing_else(self, scores, tmp_path, monkeypatch):
        path = tmp_path / "scores"
        scores.save(path)
        before = path.read_bytes()

        def fail(self, _target):
            assert self.stat().st_size == len(before)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OutputError, match="No space left on device"):
            scores.save(path)
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["scores"]

    def test_a_folder_that_cannot_be_made(self, scores, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written"):
            scores.save(tmp_path / "file" / "scores")


class TestBrokenFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            Scores.load(tmp_path / "scores")

    @pytest.mark.parametrize("content", [b"", b"{}", b"not safetensors at all", b"\xff" * 64])
    def test_not_safetensors(self, tmp_path, content):
        (tmp_path / "scores").write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            Scores.load(tmp_path / "scores")
        assert str(tmp_path / "scores") in caught.value.problem

    def test_cut_short(self, scores, tmp_path):
        scores.save(tmp_path / "scores")
        content = (tmp_path / "scores").read_bytes()
        (tmp_path / "scores").write_bytes(content[:-40])
        with pytest.raises(ConfigError, match="cannot be read"):
            Scores.load(tmp_path / "scores")

    def test_a_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            Scores.load(tmp_path)

    @pytest.mark.parametrize("header", [None, {"format": "pt"}, {"format": "gaprune-scores-1"}])
    def test_of_another_program_or_version(self, tmp_path, header):
        save_file({"importance.a": torch.ones(2)}, tmp_path / "scores", metadata=header)
        with pytest.raises(ConfigError, match="format is not gaprune-scores"):
            Scores.load(tmp_path / "scores")

    @pytest.mark.parametrize("lost", ["criterion", "options", "layers", "origin"])
    def test_a_header_with_something_missing(self, tmp_path, lost):
        header = {"format": "gaprune-scores-3", "criterion": "obd", "options": "{}", "layers": '{"a": 0}'}
        header |= {"origin": "{}"}
        save_file(
            {"importance.a": torch.ones(2)},
            tmp_path / "scores",
            metadata={key: value for key, value in header.items() if key != lost},
        )
        with pytest.raises(ConfigError, match="cannot be read"):
            Scores.load(tmp_path / "scores")

    def test_a_matrix_missing(self, tmp_path):
        header = {"format": "gaprune-scores-3", "criterion": "obd", "options": "{}", "layers": '{"a": 0, "b": 0}'}
        header |= {"origin": "{}"}
        save_file({"importance.a": torch.ones(2)}, tmp_path / "scores", metadata=header)
        with pytest.raises(ConfigError, match="cannot be read"):
            Scores.load(tmp_path / "scores")
