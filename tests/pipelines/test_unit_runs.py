"""The removal of units from end to end, over every family: smaller models that are what their provenance says."""

from __future__ import annotations

import copy

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from families import TEXTS
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, MeasurementError, ModelError
from gaprune.export.provenance import Provenance
from gaprune.export.records import Calibration
from gaprune.models.blocks import blocks, removable_layers, transformer_of
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.models.units import unit_groups
from gaprune.models.vocabulary import vocabulary
from gaprune.pruning.calibration import CalibrationData, draw_calibration
from gaprune.pruning.cut import remove_layers, remove_units
from gaprune.reconstruction.quick import Quick
from gaprune.statistics.degradation import ReferenceOutputs, layer_effects
from toys import GENERAL, tasks_folder

HEADS = ("qwen3", "mistral", "llama", "gemma")
SMALL = {"round_to": 8, "layer_triplets": 5}


def size(model):
    return sum(weight.numel() for weight in model.parameters())


def embed(model, texts=TEXTS):
    return torch.from_numpy(model.encode(list(texts), show_progress_bar=False))


def degradation(parent, child, triplets, prompts):
    """Increase of the loss and, five times, the mean distance of embeddings, by encode alone."""
    losses = [ReferenceOutputs(each, triplets, prompts=prompts, options=Recipe()).loss for each in (parent, child)]
    texts = [(prompts.query, item.query) for item in triplets]
    texts += [(prompts.passage, text) for item in triplets for text in item.passages]
    rows = [
        torch.stack([each.encode(text, prompt=prompt, convert_to_tensor=True) for prompt, text in texts])
        for each in (parent, child)
    ]
    return losses[1] - losses[0] + 5 * float((1 - torch.cosine_similarity(*rows, dim=1)).mean())


@pytest.fixture(scope="module")
def result(family, fresh, toy_triplets):
    """A family's model with half of its neurons; not to be changed."""
    return gaprune.prune(fresh(family), domain=toy_triplets, general=GENERAL, width=0.5, round_to=8)


class TestWidth:
    def test_counts_and_sparsities(self, result, model):
        groups, before = unit_groups(result.model, "width"), unit_groups(model, "width")
        assert {group.units for group in groups} == {24}
        selected = sum(group.units * group.parameters for group in before)
        assert result.selected == selected
        assert result.removed == size(model) - size(result.model) == selected // 2
        assert result.sparsity_of_selected == 0.5
        assert result.sparsity_of_model == (size(model) - size(result.model)) / size(model)
        assert "24 of 48 FFN neurons per layer removed: 50.00 %" in repr(result)

    def test_it_opens_anywhere(self, result, tmp_path):
        result.save(tmp_path / "out")
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        torch.testing.assert_close(embed(opened), embed(result.model), rtol=0, atol=1e-6)
        (cut,) = Provenance.read(tmp_path / "out").method.pruning.removed
        assert (cut.kind, cut.removed, cut.total) == ("width", 24, 48)
        assert all(len(set(kept)) == 24 for kept in cut.kept.values())
        card = (tmp_path / "out" / "README.md").read_text()
        assert "| removed FFN neurons per layer | 24 of 48 |" in card
        assert "neither smaller nor faster" not in card

    def test_without_repair_it_is_the_parent_without_these_units(self, model, toy_triplets):
        result = gaprune.prune(model, domain=toy_triplets, width=0.5, reconstruct=False, round_to=8)
        (cut,) = result.provenance().method.pruning.removed
        keep = {name: torch.zeros(48, dtype=torch.bool) for name in cut.kept}
        for name, kept in cut.kept.items():
            keep[name][list(kept)] = True
        expected = remove_units(model, unit_groups(model, "width"), keep)
        assert all(
            torch.equal(value, expected.state_dict()[name]) for name, value in result.model.state_dict().items()
        )
        assert result.provenance().method.reconstruction is None

    def test_repair_is_judged_on_held_out_triplets(self, result, model, toy_triplets):
        reconstruct = result.provenance().method.reconstruction
        assert (reconstruct.triplets, reconstruct.held_out) == (5, 2)
        assert reconstruct.kept == all(
            reconstruct.degradation_reconstructed[kind] <= degradation
            for kind, degradation in reconstruct.degradation_pruned.items()
        )
        told = reconstruct.degradation_reconstructed if reconstruct.kept else reconstruct.degradation_pruned
        for kind, triplets in (("domain", toy_triplets), ("general", GENERAL)):
            held = triplets.take(len(triplets), seed=0)[:2]
            assert told[kind] == pytest.approx(degradation(model, result.model, held, result.prompts), abs=1e-4)

    def test_of_several_ridges_the_best_stays(self, bert, toy_triplets):
        options = {"domain": toy_triplets, "width": 0.5, "round_to": 8}
        alone = {
            ridge: gaprune.prune(bert, ridge=ridge, **options).provenance().method.reconstruction
            for ridge in (0.01, 30.0)
        }
        both = gaprune.prune(bert, ridge=(0.01, 30.0), **options).provenance().method.reconstruction
        assert both.ridge == min(alone, key=lambda ridge: alone[ridge].degradation_reconstructed["domain"])
        with pytest.raises(ConfigError, match=r"^ridge: .*above 0"):
            gaprune.prune(bert, ridge=0, **options)

    def test_a_parent_in_training_mode(self, bert, toy_triplets):
        options = {"domain": toy_triplets, "width": 0.5, "round_to": 8}
        expected = gaprune.prune(bert, **options).model
        bert.train()
        trained = gaprune.prune(bert, **options).model
        assert bert.training
        assert all(torch.equal(value, trained.state_dict()[name]) for name, value in expected.state_dict().items())

    def test_bfloat16_parents(self, folder_of, toy_triplets):
        options = {
            "domain": toy_triplets,
            "width": 0.5,
            "depth": 1,
            "round_to": 8,
            "dtype": "bfloat16",
            "device": "cpu",
        }
        result = gaprune.prune(folder_of("qwen3"), **options)
        assert {weight.dtype for weight in result.model.parameters()} == {torch.bfloat16}
        assert torch.isfinite(embed(result.model)).all()


class TestHeads:
    def test_by_family(self, model, family, toy_triplets):
        if family not in HEADS:
            with pytest.raises(ModelError, match="has no head_dim"):
                gaprune.prune(model, domain=toy_triplets, heads=0.5)
            return
        result = gaprune.prune(model, domain=toy_triplets, heads=0.5, width=0.25, round_to=4)
        config = transformer_of(result.model).config
        assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (2, 1, 36)
        assert [cut.kind for cut in result.provenance().method.pruning.removed] == ["heads", "width"]
        assert torch.isfinite(embed(result.model)).all()


class TestDepth:
    def test_the_layer_that_costs_least_goes(self, model, family, toy_triplets):
        result = gaprune.prune(model, domain=toy_triplets, depth=1, reconstruct=False)
        (cut,) = result.provenance().method.pruning.removed
        layers = [1] if family == "modernbert" else [0, 1]
        options = Recipe()
        texts = {"domain": toy_triplets}
        effects = layer_effects(model, texts, layers=layers, prompts=result.prompts, options=options)["domain"]
        worst = min(effects.values(), key=lambda effect: effect.loss + 5 * effect.distance).layer
        assert cut.kept["layers"] == tuple(layer for layer in (0, 1) if layer != worst)
        expected = remove_layers(model, [worst])
        torch.testing.assert_close(embed(result.model), embed(expected), rtol=0, atol=1e-6)
        assert result.selected == sum(weight.numel() for block in blocks(model) for weight in block.parameters())

    def test_with_repair_what_can_be_made_up_for_goes(self, bert, toy_triplets):
        """The second layer adds the same vector to every token: much to lose, and nothing once a bias gives it."""
        second = blocks(bert)[1]
        for matrix in (second.attention.output.dense, second.output.dense):
            torch.nn.init.zeros_(matrix.weight)
        with torch.no_grad():
            second.output.dense.bias.copy_(4 * torch.randn(32, generator=torch.Generator().manual_seed(0)))
        found = {}
        for reconstructs in (False, True):
            result = gaprune.prune(bert, domain=toy_triplets, depth=1, reconstruct=reconstructs)
            (cut,) = result.provenance().method.pruning.removed
            (round_,) = cut.found["rounds"]
            found[reconstructs] = round_["importance"]
            assert cut.kept["layers"] == (int(not reconstructs),)
        assert found[False]["1"] > found[False]["0"]
        assert found[True]["1"] < found[True]["0"]
        assert found[True]["1"] < found[False]["1"] / 4

    def test_nothing_is_drafted_for_those_that_look_at_no_effects(self, bert, toy_triplets, monkeypatch):
        for name in ("__call__", "layer_effects"):
            monkeypatch.setattr(Quick, name, lambda *_: pytest.fail("a draft was made"))
        result = gaprune.prune(bert, domain=toy_triplets, depth=1, criterion="magnitude")
        assert len(blocks(result.model)) == 1
        assert result.provenance().method.reconstruction is not None

    def test_neurons_are_chosen_in_the_reconstructed_model(self, bert, toy_triplets):
        """After layers were removed, neurons are compared in a model that makes up for them."""
        options = {"domain": toy_triplets, "width": 0.5, "round_to": 8, "criterion": "dai:reconstruction_aware=True"}
        both = gaprune.prune(bert, depth=1, **options)
        layers, width = both.provenance().method.pruning.removed
        gone = {*range(2)} - {*layers.kept["layers"]}
        calibration = draw_calibration(bert, both.recipe, CalibrationData(toy_triplets, None, frozenset({"domain"})))
        draft = Quick(bert, calibration, both.recipe)(gone)
        bare = remove_layers(bert, gone)
        kept = [
            gaprune.prune(each, reconstruct=False, **options).provenance().method.pruning.removed[0].kept
            for each in (draft, bare)
        ]
        assert width.kept == kept[0]
        assert width.kept != kept[1]

    def test_in_rounds_neurons_are_chosen_in_what_the_round_before_left(self, bert, toy_triplets):
        options = {"domain": toy_triplets, "criterion": "dai:reconstruction_aware=True"}
        first = gaprune.prune(bert, width=1 - 34 / 48, round_to=1, **options)  # half of the way to 24, in logarithms
        kept = first.provenance().method.pruning.removed[0].kept
        calibration = draw_calibration(bert, first.recipe, CalibrationData(toy_triplets, None, frozenset({"domain"})))
        keep = {name: torch.isin(torch.arange(48), torch.tensor(units)) for name, units in kept.items()}
        draft = Quick(bert, calibration, first.recipe)((), keep)
        again = gaprune.prune(draft, width=0.5, round_to=8, reconstruct=False, **options)
        found = {rounds: gaprune.prune(bert, width=0.5, round_to=8, rounds=rounds, **options) for rounds in (1, 2)}
        cuts = {rounds: each.provenance().method.pruning.removed[0].kept for rounds, each in found.items()}
        assert cuts[2] == again.provenance().method.pruning.removed[0].kept
        assert cuts[2] != cuts[1]
        for name, units in cuts[2].items():
            assert set(units) < set(kept[name])

    @pytest.fixture
    def deep(self, bert):
        """The tiny BERT with six layers: two, three times."""
        layers = bert.transformers_model.encoder.layer
        layers.extend(copy.deepcopy(layer) for layer in [*layers] * 2)
        with torch.no_grad():
            for number, layer in enumerate(layers):
                layer.output.dense.weight *= 1 + number / 10
        bert.transformers_model.config.num_hidden_layers = len(layers)
        return bert

    def test_in_rounds_layers_are_measured_again(self, deep, toy_triplets):
        options = {"domain": toy_triplets, "depth": 3, "layer_triplets": 2, "reconstruction_triplets": 2}
        cut = gaprune.prune(deep, rounds=2, **options).provenance().method.pruning.removed[0]
        assert [len(each["importance"]) for each in cut.found["rounds"]] == [6, 4]

    def test_greedy_measures_again(self, deep, toy_triplets):
        options = {"domain": toy_triplets, "depth": 2, "reconstruct": False}
        plain = gaprune.prune(deep, **options).provenance().method.pruning.removed[0]
        greedy = gaprune.prune(deep, greedy=True, **options).provenance().method.pruning.removed[0]
        assert len(plain.found["rounds"]) == 1
        first, second = greedy.found["rounds"]
        assert len(first["importance"]) == 6
        assert len(second["importance"]) == 5
        gone = min(first["importance"], key=first["importance"].get)
        assert gone not in second["importance"]

    @pytest.mark.parametrize("removed", [[], [0]])
    def test_effects_are_those_of_quick_reconstructions(self, genuine, toy_triplets, removed):
        """The walk fits what a reconstruction without the layer, and those removed already, fits before it."""
        parent = load_model(genuine, device="cpu", max_length=16)
        data = CalibrationData(toy_triplets, None, frozenset({"domain"}))
        quick = Quick(parent, draw_calibration(parent, Recipe(), data), Recipe())
        found = quick.layer_effects({"domain": toy_triplets}, [2, 3, 5], removed)["domain"]
        whole = ReferenceOutputs(parent, toy_triplets, prompts=Prompts(), options=Recipe())
        assert [*found] == [2, 3, 5]
        for layer, effect in found.items():
            assert (effect.loss, effect.distance) == pytest.approx(whole.changed(quick([*removed, layer])), abs=1e-4)

    def test_effects_are_those_of_quick_reconstructions_in_every_family(self, model, toy_triplets):
        data = CalibrationData(toy_triplets, None, frozenset({"domain"}))
        quick = Quick(model, draw_calibration(model, Recipe(), data), Recipe())
        layers = removable_layers(model)
        found = quick.layer_effects({"domain": toy_triplets}, layers)["domain"]
        prompts = draw_calibration(model, Recipe(), data).prompts
        whole = ReferenceOutputs(model, toy_triplets, prompts=prompts, options=Recipe())
        for layer in layers:
            effect = found[layer]
            assert (effect.loss, effect.distance) == pytest.approx(whole.changed(quick([layer])), abs=1e-4)

    @pytest.mark.parametrize("criterion", ["random", "magnitude"])
    def test_baselines_need_no_data(self, bert, criterion):
        result = gaprune.prune(bert, depth=1, criterion=criterion)
        assert len(blocks(result.model)) == 1
        assert result.provenance().calibration == Calibration()

    def test_impossible_numbers(self, bert, toy_triplets, family_folder):
        with pytest.raises(ConfigError, match="depth: 2 of 2 layers cannot be removed"):
            gaprune.prune(bert, domain=toy_triplets, depth=2)
        with pytest.raises(ConfigError, match="depth: 0 should be greater than or equal to 1"):
            gaprune.prune(bert, domain=toy_triplets, depth=0)


class TestVocabulary:
    def test_texts_of_the_calibration_stay_as_they_are(self, model, toy_triplets, tmp_path):
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        result = gaprune.prune(model, domain=toy_triplets[:2], vocabulary=tmp_path / "corpus.txt")
        texts = [item.query for item in toy_triplets[:2]] + [item.positive for item in toy_triplets[:2]]
        torch.testing.assert_close(embed(result.model, texts), embed(model, texts), rtol=0, atol=1e-5)
        (cut,) = result.provenance().method.pruning.removed
        place = vocabulary(result.model)
        assert place.rows == cut.total - cut.removed < vocabulary(model).rows
        assert result.removed == cut.removed * place.width
        assert result.selected == vocabulary(model).rows * place.width

    def test_a_file_of_texts_stays_too(self, bert, tmp_path):
        path = tmp_path / "corpus.txt"
        path.write_text("a dog runs over green grass\n", encoding="utf-8")
        result = gaprune.prune(bert, vocabulary=path)
        torch.testing.assert_close(embed(result.model, ["a dog runs"]), embed(bert, ["a dog runs"]), rtol=0, atol=1e-5)
        assert not torch.allclose(embed(result.model, ["net income"]), embed(bert, ["net income"]), atol=1e-3)

    def test_prompts_that_are_given_stay_too(self, bert, toy_triplets, tmp_path):
        (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
        options = {"vocabulary": tmp_path / "corpus.txt", "query_prompt": "green grass: "}
        result = gaprune.prune(bert, domain=toy_triplets[:2], **options)
        texts = [f"green grass: {item.query}" for item in toy_triplets[:2]]
        torch.testing.assert_close(embed(result.model, texts), embed(bert, texts), rtol=0, atol=1e-5)

    def test_nothing_to_go_by(self, bert):
        with pytest.raises(ConfigError, match="none are named"):
            gaprune.prune(bert, tokens=0.5)


class TestSeveral:
    def test_one_measurement_for_all_sparsities(self, bert, toy_triplets, tmp_path, monkeypatch):
        from gaprune.pruning import measure as measuring

        calls = []
        measure = measuring.measure
        monkeypatch.setattr(measuring, "measure", lambda *a, **k: calls.append(1) or measure(*a, **k))
        results = list(
            gaprune.prune_many(bert, domain=toy_triplets, width=(0.25, 0.5), out=tmp_path / "out", round_to=4)
        )
        assert [unit_groups(result.model, "width")[0].units for result in results] == [36, 24]
        assert len(calls) == 1
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["width-0.25", "width-0.5"]

    def test_compare(self, bert, toy_triplets, tmp_path):
        found = gaprune.compare(
            bert,
            criteria=["random", "dai"],
            domain=toy_triplets,
            tasks=tasks_folder(tmp_path / "tasks"),
            width=0.5,
            round_to=8,
        )
        assert [cell.criterion for cell in found.cells] == ["random", "dai"]
        assert all(cell.reconstructed is not None for cell in found.cells)
        assert "reconstruction" in found.header()

    def test_compare_repairs_on_triplets_in_memory_as_prune_does(self, bert, toy_triplets, tmp_path):
        options = {"domain": toy_triplets, "general": GENERAL, "width": 0.25, "round_to": 4}
        seen = []
        found = gaprune.compare(
            bert,
            criteria=["magnitude", "dai"],
            tasks=tasks_folder(tmp_path / "tasks"),
            on_result=lambda result: seen.append(result.provenance().method.reconstruction),
            seeds=2,
            triplets=5,
            **options,
        )
        assert [(cell.criterion, cell.seed) for cell in found.cells] == [
            ("magnitude", 0), ("dai", 0), ("magnitude", 1), ("dai", 1),
        ]  # fmt: skip
        assert {reconstruct.general_share for reconstruct in seen} == {0.3}
        assert {cell.sparsity for cell in found.cells} == {0.25}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"width": 0.5, "granularity": "2:4"}, "granularity: it is for single weights, and width"),
        ({"width": 0.5, "sparsity": 0.3}, "sparsity: it is for single weights, and width"),
        ({"heads": 0.5, "targets": "all"}, "targets: it is for single weights, and heads"),
        ({"tokens": 0.5, "sparsity": 0.3}, "sparsity: it is for single weights, and tokens"),
        ({"width": 0.5, "scores": "s.safetensors"}, "scores: it has no effect on structured pruning"),
        ({"width": 0.5, "allocation": "row"}, "allocation: it has no effect on structured pruning"),
        ({"depth": 1, "fisher": "batch"}, "fisher: it has no effect on structured pruning"),
        ({"round_to": 8}, "round_to: no neurons or hidden dimensions are removed"),
        ({"width": 0.5, "greedy": True}, "greedy: no layers are removed, so this has no effect"),
        ({"width": 0.5, "layer_triplets": 9}, "layer_triplets: no layers are removed"),
        ({"depth": 1, "round_to": 8}, "round_to: no neurons or hidden dimensions are removed"),
        ({"reconstruct": False, "ridge": 1.0}, "ridge: reconstruction is switched off"),
        ({"reconstruct": False, "general_share": 0.1}, "general_share: reconstruction is switched off"),
        ({"target": "parameters=1M", "width": 0.5}, "width: the target decides how much is removed; leave width out"),
        ({"width": [0.25, 0.5], "depth": [1, 2]}, "depth: width has several values already"),
        ({"width": 1.5}, "width: 1.5 is not between 0 and 1"),
        ({"granularity": "width"}, "granularity: 'width' is neither weight nor N:M"),
    ],
)
def test_contradictions(options, problem):
    with pytest.raises(ConfigError) as caught:
        Recipe.build(options)
    assert caught.value.problem.startswith(problem)


@pytest.mark.parametrize(
    "options",
    [{"width": (0.25, 0.5), "depth": 1}, {"depth": 1}, {"target": "size=1MB"}, {"target": "parameters=2k"}],
)
def test_a_recipe_written_out_means_the_same(options):
    recipe = Recipe.build(options)
    assert Recipe.build(recipe.model_dump()) == recipe
    assert Recipe.build(recipe.model_dump(mode="json")) == recipe


def test_nothing_to_repair(bert, toy_triplets):
    with pytest.raises(ConfigError, match="reconstruct: there is nothing to reconstruct"):
        gaprune.prune(bert, domain=toy_triplets, tokens=0.5, reconstruct=True)


def test_losses_that_are_not_finite_choose_nothing(bert, toy_triplets):
    with torch.no_grad():
        blocks(bert)[1].output.LayerNorm.weight.mul_(1e30)
        blocks(bert)[1].output.LayerNorm.bias.fill_(1e38)
    with pytest.raises((MeasurementError, ModelError)):
        gaprune.prune(bert, domain=toy_triplets, depth=1)


def test_criteria_that_tell_no_units_apart(bert, toy_triplets):
    with pytest.raises(ConfigError, match="criterion: obd cannot rank units"):
        gaprune.prune(bert, domain=toy_triplets, width=0.5, criterion="obd")
    with pytest.raises(ConfigError, match="criterion: wanda cannot rank layers"):
        gaprune.prune(bert, domain=toy_triplets, depth=1, criterion="wanda")


def test_too_few_or_none_left(bert, toy_triplets):
    with pytest.raises(ConfigError, match=r"width: 0.5 of 48 FFN neurons .*multiples of 64.*\n.*round_to"):
        gaprune.prune(bert, domain=toy_triplets, width=0.5)
    with pytest.raises(ConfigError, match="reconstruct: 2 domain triplets are too few"):
        gaprune.prune(bert, domain=toy_triplets[:2], width=0.5, round_to=8)
    with pytest.raises(ConfigError, match="reconstruct: it is fitted on texts of your domain"):
        gaprune.prune(bert, width=0.5, criterion="magnitude", reconstruct=True, round_to=8)


class TestWeightsRepaired:
    def test_zeros_stay_and_the_loss_says_why(self, model, toy_triplets):
        plain = gaprune.prune(model, domain=toy_triplets, targets="all", sparsity=0.6, reconstruct=False)
        result = gaprune.prune(model, domain=toy_triplets, targets="all", sparsity=0.6)
        assert result.sparsity_of_selected == pytest.approx(0.6, abs=1e-3)
        reconstruct = result.provenance().method.reconstruction
        held = toy_triplets.take(len(toy_triplets), seed=0)[:2]
        degradations = [degradation(model, each.model, held, result.prompts) for each in (plain, result)]
        assert reconstruct.degradation_pruned["domain"] == pytest.approx(degradations[0], abs=1e-4)
        told = min(reconstruct.degradation_pruned["domain"], reconstruct.degradation_reconstructed["domain"])
        assert told == pytest.approx(degradations[1], abs=1e-4)
        for name, keep in result.change.keep.items():
            assert torch.equal(keep, plain.change.keep[name])
            weight = transformer_of(result.model).get_submodule(name).weight
            assert not weight[~keep].any()

    def test_patterns_hold(self, bert, toy_triplets):
        result = gaprune.prune(bert, domain=toy_triplets, granularity="2:4")
        for name in result.change.keep:
            weight = transformer_of(result.model).get_submodule(name).weight
            assert int((weight.view(len(weight), -1, 4) != 0).sum(2).max()) <= 2

    def test_a_criterion_that_updates_itself_is_not_repaired(self, bert, toy_triplets):
        result = gaprune.prune(bert, domain=toy_triplets, criterion="sparsegpt")
        assert result.provenance().method.reconstruction is None
        with pytest.raises(ConfigError, match="reconstruct: sparsegpt updates the kept weights itself"):
            gaprune.prune(bert, domain=toy_triplets, criterion="sparsegpt", reconstruct=True)
