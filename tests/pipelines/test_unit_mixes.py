"""Mixes of units in one recipe, and mixes that are chosen for a target: what is cut is what was switched off."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from families import TEXTS
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks
from gaprune.models.linear_layers import linear_layers
from gaprune.models.prompts import Prompts
from gaprune.models.units import unit_groups
from gaprune.models.vocabulary import vocabulary
from gaprune.pruning import measure as measuring
from gaprune.pruning.calibration import CalibrationData, draw_calibration
from gaprune.pruning.costs import Shape, of_shape
from gaprune.reconstruction.quick import Quick
from gaprune.reconstruction.reconstruct import split
from gaprune.report.sentences import target_text
from gaprune.statistics.degradation import ReferenceOutputs, skipping
from toys import GENERAL, triplets_file

HEADS = ("qwen3", "mistral", "llama", "gemma")
SMALL = {"round_to": 8, "layer_triplets": 5}


def size(model):
    return sum(weight.numel() for weight in model.parameters())


def embed(model, texts=TEXTS):
    return torch.from_numpy(model.encode(list(texts), show_progress_bar=False))


def test_a_shape_is_cut_out_without_a_choice(model):
    whole = Shape.of(model)
    for changes in ({"layers": 1}, {"width": 24}, {"layers": 1, "width": 24}):
        assert Shape.of(of_shape(model, whole.changed(**changes))) == whole.changed(**changes)
    assert Shape.of(model) == whole


class TestMix:
    def test_without_repair_it_is_the_parent_with_these_parts_switched_off(
        self, model, family, toy_triplets, tmp_path
    ):
        """Everything at once, on texts whose tokens stay."""
        heads = {"heads": 0.5} if family in HEADS else {}
        before = {name: value.clone() for name, value in model.state_dict().items()}
        result = gaprune.prune(
            model, domain=toy_triplets[:4], width=0.5, depth=1, reconstruct=False,
            vocabulary=str(triplets_file(tmp_path / "t.jsonl", toy_triplets[:4])), **heads, **SMALL,
        )  # fmt: skip
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()), "the parent's own"
        depth, *cut, tokens = result.provenance().method.pruning.removed
        assert [each.kind for each in cut] == [*heads, "width"]
        assert tokens.removed > 0
        (stays,) = depth.kept["layers"]
        masked = copy.deepcopy(model)
        modules = {matrix.name: matrix.module for matrix in linear_layers(masked)}
        for kind in (each.kind for each in cut):
            group = unit_groups(masked, kind)[stays]
            kept = next(each.kept for each in cut if each.kind == kind)
            stay = torch.zeros(group.units, dtype=torch.bool)
            stay[list(next(iter(kept.values())))] = True
            with torch.no_grad():
                modules[group.name].weight[:, ~stay.repeat_interleave(group.consumer.columns_per_unit)] = 0
        texts = [text for item in toy_triplets[:4] for text in (item.query, *item.passages)]
        with skipping(masked, [1 - stays]):
            expected = embed(masked, texts)
        torch.testing.assert_close(embed(result.model, texts), expected, rtol=0, atol=1e-5)
        assert (expected - embed(model, texts)).abs().max() > 1e-3

    def test_others_open_it_without_us(self, bert, toy_triplets, tmp_path):
        texts = triplets_file(tmp_path / "t.jsonl", toy_triplets)
        options = {"width": 0.5, "depth": 1, "vocabulary": texts, "out": tmp_path / "out", **SMALL}
        result = gaprune.prune(bert, domain=toy_triplets, **options)
        code = """
            import sys
            import numpy as np, torch
            from transformers import AutoModel, AutoTokenizer
            folder, *texts = sys.argv[1:]
            batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
            network, found = AutoModel.from_pretrained(folder, output_loading_info=True)
            assert not any(found.values()), found
            with torch.no_grad():
                states = network(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            plain = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
            assert "gaprune" not in sys.modules
            np.save(folder + "/embeddings", plain)
        """
        subprocess.run(
            [sys.executable, "-c", inspect.cleandoc(code), str(tmp_path / "out"), *TEXTS], check=True, text=True
        )
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        assert not any("gaprune" in type(each).__module__ for each in opened.modules())
        for found in (torch.from_numpy(np.load(tmp_path / "out" / "embeddings.npy")), embed(opened)):
            torch.testing.assert_close(found, embed(result.model), rtol=0, atol=1e-5)

    def test_all_kinds_in_one_recipe(self, model, family, toy_triplets, tmp_path):
        recipe = {"width": 0.5, "depth": 1, "vocabulary": str(tmp_path / "corpus.txt"), **SMALL}
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        result = gaprune.prune(model, domain=toy_triplets, recipe=recipe, out=tmp_path / "out")
        cuts = result.provenance().method.pruning.removed
        assert [cut.kind for cut in cuts] == ["depth", "width", "vocabulary"]
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        torch.testing.assert_close(embed(opened), embed(result.model), rtol=0, atol=1e-6)
        assert len(blocks(opened)) == 1
        assert unit_groups(opened, "width")[0].units == 24

    @pytest.mark.parametrize(
        ("option", "met"),
        [
            ({"target": "parameters=15k"}, lambda child, parent: size(child) <= 15_000),
            ({"target": "size=60kB"}, lambda child, parent: size(child) * 4 <= 60_000),
            ({"target": "speedup=2"}, lambda child, parent: 2 * linear(child) <= linear(parent)),
        ],
        ids=["parameters", "size", "speedup"],
    )
    def test_targets(self, bert, toy_triplets, option, met):
        result = gaprune.prune(bert, domain=toy_triplets, **option, **SMALL)
        assert met(result.model, bert)
        found = result.provenance().method.pruning.target
        best = found.chosen
        assert best.parameters == size(result.model)
        assert best.estimated_degradation == min(each.estimated_degradation for each in found.candidates)
        (told,) = [line for line in target_text(found).split("; ") if line.startswith("Best of ")]
        assert f"{best.width} of 48 FFN neurons per layer" in told
        assert (len(blocks(result.model)), unit_groups(result.model, "width")[0].units) == (best.layers, best.width)

    def test_a_target_beside_a_vocabulary(self, bert, toy_triplets, monkeypatch, tmp_path):
        """Tokens go first; layers and neurons make up the rest, and are measured once."""
        calls = []
        plain = Quick.layer_effects
        monkeypatch.setattr(Quick, "layer_effects", lambda *a, **k: calls.append(1) or plain(*a, **k))
        options = {"domain": toy_triplets[:4], "vocabulary": tmp_path / "corpus.txt", **SMALL}
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        tokens = vocabulary(gaprune.prune(bert, domain=toy_triplets[:4], vocabulary=options["vocabulary"]).model).rows
        saved = (vocabulary(bert).rows - tokens) * 32
        enough = size(bert) - saved
        alone = gaprune.prune(bert, target=f"parameters={enough}", **options)
        assert [cut.kind for cut in alone.provenance().method.pruning.removed] == ["vocabulary"]
        more = gaprune.prune(bert, target=f"parameters={enough - 4000}", out=tmp_path / "out", **options)
        assert size(more.model) <= enough - 4000
        found = more.provenance().method.pruning.target
        assert found.chosen.parameters == size(more.model)
        assert found.chosen.tokens == vocabulary(more.model).rows == tokens
        assert len(calls) == 2
        assert f"{tokens} of 91 tokens are kept" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("reconstruct", [True, False])
    def test_degradation_is_that_of_the_mix(self, bert, toy_triplets, reconstruct):
        """The candidate that keeps all layers is made here once more, by quick reconstruction or by switching off."""
        options = {"domain": toy_triplets, "reconstruct": reconstruct, "round_to": 8}
        target = f"parameters={int(0.95 * size(bert))}"
        result = gaprune.prune(bert, target=target, layer_triplets=5, **options)
        found = result.provenance().method.pruning.target
        (mix,) = (each for each in found.candidates if each.layers == 2)
        (width,) = gaprune.prune(bert, width=1 - mix.width / 48, **options).provenance().method.pruning.removed
        keep = {name: torch.isin(torch.arange(48), torch.tensor(kept)) for name, kept in width.kept.items()}
        drawn = draw_calibration(bert, result.recipe, CalibrationData(toy_triplets, None, frozenset({"domain"})))
        judged = split(drawn, result.recipe)[1]["domain"][:5] if reconstruct else toy_triplets.take(5, seed=0)
        whole = ReferenceOutputs(bert, judged, prompts=Prompts(), options=Recipe())
        if reconstruct:
            expected = whole.degradation(Quick(bert, drawn, result.recipe)((), keep))
        else:
            masked = copy.deepcopy(bert)
            for matrix in linear_layers(masked):
                if matrix.name in keep:
                    matrix.module.weight.data[:, ~keep[matrix.name]] = 0
            expected = whole.degradation(masked)
        assert expected > 1e-3
        assert mix.estimated_degradation == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize(("name", "reconstruct"), [("bert", True), ("bert", False), ("llama", False)])
    def test_hidden_dimensions_and_heads_are_searched_too(self, name, folder_of, toy_triplets, reconstruct):
        """Layers of this stand-in for a machine cost by their hidden dimensions and heads alone."""

        class Machine:
            def speedup(self, shape):
                return 32 / shape.hidden * (2 / shape.heads if shape.heads else 1)

            def confirms(self, shape):
                return True

        model = SentenceTransformer(str(folder_of(name)), device="cpu")
        kinds = ["depth", "width", "hidden"] + ["heads"] * (name == "llama")
        options = {"domain": toy_triplets, "reconstruct": reconstruct, "search": kinds, **SMALL}
        result = gaprune.prune(model, target="speedup=1.3", speed=Machine(), **options)
        found = result.provenance().method.pruning.target
        tried = {(each.hidden, each.heads) for each in found.candidates}
        assert tried >= ({(24, None)} if name == "bert" else {(24, 2), (32, 1)})
        assert (32, Shape.of(model).heads) not in tried
        assert Shape.of(result.model) == Shape(**found.chosen.model_dump(include=set(Shape.model_fields)))
        assert found.chosen.parameters == size(result.model)
        assert embed(result.model).shape == embed(model).shape
        for mix in found.candidates if not reconstruct else ():
            cut = {"heads": 0.5} if mix.hidden == 32 else {"hidden": 1 - mix.hidden / 32, "round_to": 8}
            alone = gaprune.prune(model, domain=toy_triplets, reconstruct=False, **cut).model
            judged = toy_triplets.take(5, seed=0)
            whole = ReferenceOutputs(model, judged, prompts=Prompts(), options=Recipe())
            assert mix.estimated_degradation == pytest.approx(whole.degradation(alone), abs=1e-4)

    def test_of_mixes_with_the_same_loss_the_one_that_moves_embeddings_less_is_better(self, bert, toy_triplets):
        options = {"domain": toy_triplets, "target": "parameters=15k", "reconstruct": False, **SMALL}
        found = {
            weight: gaprune.prune(bert, criterion=f"dai:preservation={weight}", **options).provenance().method
            for weight in (0.0, 5.0)
        }
        without, with_ = (found[weight].pruning.target.chosen.estimated_degradation for weight in (0.0, 5.0))
        assert with_ > without

    def test_speed_is_what_a_function_says(self, bert, toy_triplets):
        """A machine on which neurons are free removes layers; if its estimate is wrong, the choice is made again."""

        class Machine:
            factor, asked = 1.0, ()

            def speedup(self, shape):
                return self.factor * (2 / shape.layers) * (48 / shape.width) ** 0.1

            def confirms(self, shape):
                self.asked = (*self.asked, shape)
                self.factor = 0.9
                return len(self.asked) > 1

        machine = Machine()
        options = {"domain": toy_triplets, "target": "speedup=1.9", **SMALL}
        found = gaprune.prune(bert, speed=machine, **options).provenance().method.pruning.target
        assert found.measured
        assert {each.layers for each in found.candidates} == {1}
        first, last = machine.asked
        assert (first.width, first.hidden) == (48, 32)
        assert last.width == found.chosen.width < 48
        assert found.chosen.speedup == pytest.approx(machine.speedup(found.chosen))
        with pytest.raises(ConfigError, match=r"out of reach: .*as measured here"):
            gaprune.prune(bert, speed=machine, **{**options, "target": "speedup=3"})

    def test_where_all_neurons_stay_only_layers_are_removed(self, bert, toy_triplets):
        neurons = bert[0].auto_model.config.intermediate_size
        options = SMALL | {"round_to": neurons, "criterion": "activation", "reconstruct": False}
        result = gaprune.prune(bert, domain=toy_triplets, target="parameters=15k", **options)
        found = result.provenance().method.pruning.target
        assert {each.width for each in found.candidates} == {neurons}

    def test_out_of_reach(self, bert, toy_triplets, tmp_path, monkeypatch):
        monkeypatch.setattr(measuring, "measure", lambda *_args, **_options: pytest.fail("too late"))
        with pytest.raises(ConfigError, match=r"target: parameters=1000 is out of reach: .*\n.*--vocab"):
            gaprune.prune(bert, domain=toy_triplets, target="parameters=1k", **SMALL)
        with pytest.raises(ConfigError, match=r"target: speedup=50 is out of reach: .*\n.*round_to"):
            gaprune.prune(bert, domain=toy_triplets, target="speedup=50", **SMALL)
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        options = {"vocabulary": tmp_path / "corpus.txt", **SMALL}
        with pytest.raises(ConfigError, match=r"target: parameters=9000 is out of reach: .*\n.*tokens=0.9"):
            gaprune.prune(bert, domain=toy_triplets[:4], target="parameters=9k", **options)
        with pytest.raises(ConfigError, match=r"the parent reaches parameters=1000000 as it is"):
            gaprune.prune(bert, domain=toy_triplets, target="parameters=1M", **SMALL)
        for wrong in ("parameters=many", "parameters=1.2.3M", "size=big", "speedup=1", "steps=3", "12M"):
            with pytest.raises(ConfigError, match=f"target: '{wrong}' is not a target; write speedup=2"):
                gaprune.prune(bert, domain=toy_triplets, target=wrong, **SMALL)

    def test_checkpoints_of_parent_and_child_lie_apart(self, bert, toy_triplets, tmp_path):
        options = {"domain": toy_triplets, "target": "parameters=15k", "checkpoint": tmp_path / "kept", **SMALL}
        first = gaprune.prune(bert, **options)
        again = gaprune.prune(bert, resume=True, **options)
        assert all(
            torch.equal(value, again.model.state_dict()[name]) for name, value in first.model.state_dict().items()
        )

    def test_what_a_reconstruction_on_other_data_gave_is_not_taken(self, bert, toy_triplets, tmp_path, capsys):
        """Without a layer the model is reconstructed on domain and general triplets before either is measured."""
        options = {"general": GENERAL, "depth": 1, "width": 0.5, "checkpoint": tmp_path / "kept", **SMALL}
        gaprune.prune(bert, domain=toy_triplets, **options)
        for domain, is_same in ((toy_triplets, True), (toy_triplets[:6], False)):
            capsys.readouterr()
            gaprune.prune(bert, domain=domain, resume=True, **options)
            assert ("Measuring general: all batches were measured before" in capsys.readouterr().err) == is_same


def linear(model):
    return sum(weight.numel() for block in blocks(model) for weight in block.parameters() if weight.ndim == 2)
