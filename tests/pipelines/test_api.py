"""Whole runs in Python: what is pruned, what is left alone, what is written, and what is refused before measuring."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.criteria.registry import available, create
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError, ModelError, OutputError, SelectionError
from gaprune.export.provenance import Provenance
from gaprune.export.records import Calibration
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.names import model_name
from gaprune.pipelines import prune as pipeline
from gaprune.pipelines.arguments import build_recipe
from gaprune.pruning import calibration as calibration_data
from gaprune.pruning import measure as measuring
from gaprune.pruning.zeros import Pruning, apply
from launched import server
from toys import GENERAL, nli, tasks_folder, triplets_file

TEXTS = ["a dog runs over green grass", "net income of the quarter of 2019", "cash"]
OWN_KINDS = {"mlp", "attention"}
BOTH = {"criterion": "dai:general_share=0.2"}
"""A criterion that looks at domain and general data, whatever the default is."""


@pytest.fixture
def measured(monkeypatch):
    """Counts what is measured, by the kind of data."""
    counts = Counter()
    genuine = measuring.measure

    def spy(*args, label, **kwargs):
        counts[label] += 1
        return genuine(*args, label=label, **kwargs)

    monkeypatch.setattr(measuring, "measure", spy)
    return counts


@pytest.fixture
def never_measured(monkeypatch):
    def fail(*_args, **_kwargs):
        raise AssertionError("measured before everything was checked")

    monkeypatch.setattr(measuring, "measure", fail)


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def weights_of(model) -> dict[str, torch.Tensor]:
    return {matrix.name: matrix.module.weight.detach() for matrix in linear_layers(model)}


def zeros_in(model, names) -> int:
    weights = weights_of(model)
    return sum(int((weights[name] == 0).sum()) for name in names)


def share_of_zeros(model) -> float:
    parameters = list(model.parameters())
    return sum(int((each == 0).sum()) for each in parameters) / sum(each.numel() for each in parameters)


class Pruned:
    """A family's model pruned once, for several tests to look at."""

    def __init__(self, source: Path, out: Path, domain: Triplets) -> None:
        self.parent = load_model(source, device="cpu")
        self.before = state_of(self.parent)
        self.out = out
        self.result = gaprune.prune(
            self.parent,
            domain=domain,
            general=GENERAL,
            sparsity=0.37,
            targets="all",
            triplets=5,
            out=out,
            reconstruct=False,
            **BOTH,
        )
        self.selected = [matrix.name for matrix in linear_layers(self.parent) if matrix.kind in OWN_KINDS]


@pytest.fixture(scope="module")
def pruned(family_folder, toy_triplets, tmp_path_factory) -> Pruned:
    return Pruned(family_folder, tmp_path_factory.mktemp("pruned") / "out", toy_triplets)


class TestEveryFamily:
    def test_exactly_as_many_zeros_as_asked_for(self, pruned):
        size = sum(weights_of(pruned.parent)[name].numel() for name in pruned.selected)
        assert zeros_in(pruned.result.model, pruned.selected) == round(0.37 * size)
        assert pruned.result.change.zeros == round(0.37 * size)
        assert pruned.result.change.size == size
        assert list(pruned.result.change.keep) == pruned.selected

    def test_every_other_weight_is_the_parents(self, pruned):
        after = state_of(pruned.result.model)
        assert after.keys() == pruned.before.keys()
        pruned_names = {f"{name}.weight" for name in pruned.selected}
        for name, values in after.items():
            own = pruned.before[name]
            if any(name == each or name.endswith(f".{each}") for each in pruned_names):
                assert torch.equal(values[values != 0], own[values != 0])
            else:
                assert torch.equal(values, own), name

    def test_the_parent_is_untouched(self, pruned):
        assert same(state_of(pruned.parent), pruned.before)
        assert pruned.result.model is not pruned.parent
        shared = {each.data_ptr() for each in pruned.parent.parameters()}
        assert shared.isdisjoint(each.data_ptr() for each in pruned.result.model.parameters())

    def test_both_sparsities_by_counting(self, pruned):
        model, result = pruned.result.model, pruned.result
        size = sum(weights_of(model)[name].numel() for name in pruned.selected)
        assert result.sparsity_of_selected == zeros_in(model, pruned.selected) / size
        parameters = sum(each.numel() for each in model.parameters())
        assert result.sparsity_of_model == zeros_in(model, pruned.selected) / parameters
        assert result.footprint.sparsity() == pytest.approx(share_of_zeros(model), abs=1e-12)
        said = result.provenance().sparsity
        assert said.of_selected == result.sparsity_of_selected
        assert said.of_model == result.sparsity_of_model
        assert said.asked == 0.37

    def test_the_folder_opens_in_sentence_transformers_alone(self, pruned):
        opened = SentenceTransformer(str(pruned.out), device="cpu", local_files_only=True)
        assert same(state_of(opened), state_of(pruned.result.model))
        np.testing.assert_array_equal(opened.encode(TEXTS), pruned.result.model.encode(TEXTS))
        assert opened.prompts == pruned.parent.prompts
        for name in ("encode_query", "encode_document"):
            np.testing.assert_array_equal(getattr(opened, name)(TEXTS), getattr(pruned.result.model, name)(TEXTS))
        assert not np.allclose(opened.encode(TEXTS), pruned.parent.encode(TEXTS), atol=1e-3)
        assert opened.max_seq_length == pruned.parent.max_seq_length

    def test_the_folder_holds_safetensors_alone(self, pruned):
        files = [path for path in pruned.out.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".html", ".txt", ".jinja"}
        assert any(path.name == "model.safetensors" for path in files)
        assert not [entry for entry in pruned.out.parent.iterdir() if entry != pruned.out]

    def test_card_and_provenance_are_there(self, pruned):
        card = (pruned.out / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\nlibrary_name: sentence-transformers\n")
        written = Provenance.read(pruned.out)
        parent = written.parent.model_copy(update={"path": None})
        assert written.model_copy(update={"parent": parent}) == pruned.result.provenance()
        assert list(written.method.pruning.linear_layers) == pruned.selected

    def test_the_folder_can_be_pruned_again(self, pruned, tmp_path):
        again = gaprune.prune(
            pruned.out, criterion="magnitude", sparsity=0.6, targets="all", device="cpu", out=tmp_path / "again"
        )
        size = again.change.size
        assert zeros_in(again.model, pruned.selected) == round(0.6 * size)
        first, second = weights_of(pruned.result.model), weights_of(again.model)
        assert all((second[name][first[name] == 0] == 0).all() for name in pruned.selected), "zeros go first"
        assert again.provenance().parent.name == model_name(pruned.out)

    def test_two_of_four(self, family_folder):
        result = gaprune.prune(family_folder, criterion="magnitude", granularity="2:4", targets="all", device="cpu")
        assert result.sparsity == 0.5
        for name in result.change.keep:
            groups = weights_of(result.model)[name].reshape(-1, 4)
            assert ((groups == 0).sum(dim=1) == 2).all(), name
        assert result.provenance().method.pruning.allocation is None

    def test_a_pattern_that_does_not_fit_is_refused(self, family_folder, never_measured, toy_triplets):
        with pytest.raises(ConfigError, match=r"^granularity 2:5: .*layers?\..* has (32|48) inputs, no multiple of 5"):
            gaprune.prune(family_folder, domain=toy_triplets, general=GENERAL, granularity="2:5", device="cpu")


class TestCriteria:
    @pytest.mark.parametrize("criterion", [*available(), "obd-general", "wanda-mix", "sparsegpt-mix"])
    def test_end_to_end(self, bert, toy_triplets, criterion):
        result = gaprune.prune(bert, domain=toy_triplets, general=GENERAL, sparsity=0.45, criterion=criterion)
        assert zeros_in(result.model, result.change.keep) == round(0.45 * result.change.size)
        assert result.provenance().method.criterion == criterion
        assert np.isfinite(result.model.encode(TEXTS)).all()

    @pytest.mark.parametrize("granularity", ["weight", "2:4"])
    def test_sparsegpt_updates_what_stays(self, bert, toy_triplets, granularity):
        options = {} if granularity == "2:4" else {"sparsity": 0.5}
        result = gaprune.prune(
            bert, domain=toy_triplets, criterion="sparsegpt", granularity=granularity, targets="all", **options
        )
        before, after = weights_of(bert), weights_of(result.model)
        for name, keep in result.change.keep.items():
            assert (after[name][~keep] == 0).all()
            assert torch.equal(after[name], result.change.weights[name])
            assert not torch.allclose(after[name][keep], before[name][keep], atol=1e-4), name
            assert abs(int((~keep).sum()) - keep.numel() / 2) <= 1, "the budget is one a matrix"

    def test_sparsegpt_moves_embeddings_less_than_its_mask_alone(self, bert, toy_triplets):
        result = gaprune.prune(bert, domain=toy_triplets, criterion="sparsegpt", sparsity=0.5, targets="all")
        masked = apply(bert, Pruning(result.change.keep))
        texts = [text for item in toy_triplets for text in (item.query, *item.passages)]
        dense = bert.encode(texts)
        updated, alone = (np.square(each.encode(texts) - dense).sum() for each in (result.model, masked))
        assert updated < alone

    @pytest.mark.parametrize(
        "options",
        [
            {"negatives": "explicit", "criterion": "obd"},
            {"fisher": "batch", "criterion": "obd"},
            {"fisher": "batch", "batch_size": 2, "criterion": "dai-paper"},
            {"triplets": 3, "seed": 4},
            {"batch_size": 2, "temperature": 0.1, "criterion": "obd"},
            {"query_prompt": "cash ", "passage_prompt": "a dog "},
            {"criterion": "taylor", "allocation": "row"},
            {"criterion": "dai:tempering=0:general_share=0:alpha=0.5"},
        ],
        ids=",".join,
    )
    def test_options_of_a_measurement(self, bert, toy_triplets, options):
        criterion = options.get("criterion", "dai").partition(":")[0]
        plain = gaprune.prune(bert, domain=toy_triplets, general=GENERAL, criterion=criterion)
        result = gaprune.prune(bert, domain=toy_triplets, general=GENERAL, **options)
        assert zeros_in(result.model, result.change.keep) == round(0.5 * result.change.size)
        assert any(not torch.equal(keep, plain.change.keep[name]) for name, keep in result.change.keep.items())

    def test_mined_negatives(self, bert, toy_pairs, toy_triplets):
        result = gaprune.prune(bert, domain=toy_pairs, general=GENERAL, mine_negatives=1, negatives="explicit")
        said = result.provenance().calibration.domain
        assert said.triplets == 7
        assert said.sha256 not in {toy_pairs.fingerprint, toy_triplets.fingerprint}

    def test_triplets_are_drawn_from_the_seed(self, bert, toy_triplets):
        def drawn(seed):
            result = gaprune.prune(bert, domain=toy_triplets, general=GENERAL, triplets=3, seed=seed)
            return result.provenance().calibration.domain.sha256

        assert drawn(1) == drawn(1) == toy_triplets.take(3, seed=1).fingerprint
        assert drawn(1) != drawn(2)

    def test_the_same_run_twice_is_the_same(self, bert, toy_triplets):
        first, second = (gaprune.prune(bert, domain=toy_triplets, general=GENERAL, triplets=4) for _ in range(2))
        assert same(state_of(first.model), state_of(second.model))

    def test_a_criterion_that_needs_no_data_uses_none(self, bert, toy_triplets, never_measured):
        result = gaprune.prune(bert, criterion="magnitude", domain=toy_triplets, reconstruct=False)
        assert result.provenance().calibration == Calibration()

    def test_magnitude_removes_the_smallest(self, bert):
        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.5, targets="mlp")
        weights = weights_of(bert)
        gone = torch.cat([weights[name][~keep].abs() for name, keep in result.change.keep.items()])
        stays = torch.cat([weights[name][keep].abs() for name, keep in result.change.keep.items()])
        assert gone.max() <= stays.min()

    def test_bfloat16_parents_stay_bfloat16(self, folder_of, tmp_path, toy_triplets):
        result = gaprune.prune(
            folder_of("qwen3"),
            domain=toy_triplets,
            general=GENERAL,
            dtype="bfloat16",
            device="cpu",
            out=tmp_path / "out",
        )
        opened = SentenceTransformer(str(tmp_path / "out"), device="cpu")
        assert {each.dtype for each in opened.parameters()} == {torch.bfloat16}
        assert zeros_in(opened, result.change.keep) == round(0.5 * result.change.size)


class TestSeveralSparsities:
    def test_one_measurement_for_all(self, bert, toy_triplets, tmp_path, measured):
        results = list(
            gaprune.prune_many(
                bert, domain=toy_triplets, general=GENERAL, sparsity=(0.3, 0.5, 0.65), out=tmp_path / "out", **BOTH
            )
        )
        assert measured == {"domain": 1, "general": 1}
        assert [result.sparsity for result in results] == [0.3, 0.5, 0.65]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            f"sparsity-{value}" for value in (0.3, 0.5, 0.65)
        ]
        for result in results:
            assert result.out == tmp_path / "out" / f"sparsity-{result.sparsity}"
            opened = SentenceTransformer(str(result.out), device="cpu")
            assert zeros_in(opened, result.change.keep) == round(result.sparsity * result.change.size)

    def test_each_is_written_as_soon_as_it_is_there(self, bert, tmp_path):
        results = gaprune.prune_many(bert, criterion="magnitude", sparsity="0.3,0.5", out=tmp_path / "out")
        next(results)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["sparsity-0.3"]

    def test_sparsities_that_are_almost_alike_have_folders_of_their_own(self, bert, tmp_path):
        values = (0.5, 0.5000001)
        list(gaprune.prune_many(bert, criterion="magnitude", sparsity=values, out=tmp_path / "out"))
        assert len(list((tmp_path / "out").iterdir())) == 2

    def test_a_folder_in_the_way_is_found_before_the_first(self, bert, toy_triplets, tmp_path, never_measured):
        (tmp_path / "out" / "sparsity-0.5").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"sparsity-0\.5 exists"):
            gaprune.prune_many(bert, domain=toy_triplets, general=GENERAL, sparsity=(0.3, 0.5), out=tmp_path / "out")

    def test_prune_returns_one_and_says_so_before_anything(self, bert, tmp_path, never_measured):
        with pytest.raises(ConfigError, match="sparsity: 2 values were given") as caught:
            gaprune.prune(bert, domain="no-such.jsonl", sparsity=(0.3, 0.5), out=tmp_path / "out")
        assert caught.value.remedy == "Use gaprune.prune_many."
        assert not list(tmp_path.iterdir())


class TestMemory:
    """What a run holds: the model it loads becomes its last result, one that is given stays."""

    @pytest.fixture
    def in_place(self, monkeypatch):
        """Whether each result was made in place, in turn."""
        made = []
        genuine = pipeline.prune_unstructured

        def spy(*arguments, inplace):
            made.append(inplace)
            return genuine(*arguments, inplace=inplace)

        monkeypatch.setattr(pipeline, "prune_unstructured", spy)
        return made

    def test_the_last_result_of_a_parent_that_was_loaded_is_the_parent(self, bert, folder_of, in_place):
        options = {"criterion": "magnitude", "sparsity": (0.3, 0.5, 0.6)}
        kept = list(gaprune.prune_many(folder_of("bert"), device="cpu", **options))
        assert in_place == [False, False, True]
        copied = list(gaprune.prune_many(bert, **options))
        assert in_place[3:] == [False] * 3
        for one, other in zip(kept, copied, strict=True):
            assert same(state_of(one.model), state_of(other.model))
            assert one.provenance().sparsity == other.provenance().sparsity
        assert same(state_of(bert), state_of(load_model(folder_of("bert"), device="cpu")))

    def test_the_parent_is_evaluated_before_it_goes(self, bert, folder_of, tmp_path, in_place):
        options = {"criterion": "magnitude", "sparsity": 0.6, "tasks": tasks_folder(tmp_path / "tasks")}
        loaded = gaprune.prune(folder_of("bert"), device="cpu", **options)
        assert in_place == [True]
        given = gaprune.prune(bert, **options)
        one, other = ([(each.value, each.parent) for each in made.evaluation.scores] for made in (loaded, given))
        assert one == other
        assert all(value != parent for value, parent in one)

    def test_weight_updates_are_the_same_in_place(self, bert, folder_of, toy_triplets, in_place):
        options = {"criterion": "sparsegpt", "domain": toy_triplets}
        loaded = gaprune.prune(folder_of("bert"), device="cpu", **options)
        assert in_place == [True]
        assert same(state_of(loaded.model), state_of(gaprune.prune(bert, **options).model))

    def test_updated_weights_are_held_in_the_models_type(self, folder_of, toy_triplets):
        options = {"criterion": "sparsegpt", "domain": toy_triplets, "dtype": "bfloat16", "device": "cpu"}
        result = gaprune.prune(folder_of("bert"), **options)
        assert {each.dtype for each in result.change.weights.values()} == {torch.bfloat16}

    def test_a_result_goes_before_the_next_is_made(self, folder_of, monkeypatch):
        results = gaprune.prune_many(folder_of("bert"), device="cpu", criterion="magnitude", sparsity=(0.3, 0.5))
        first = next(results)
        alive = weakref.ref(first.model)
        del first
        genuine = pipeline.prune_unstructured

        def spy(*arguments, **options):
            assert alive() is None, "still there"
            return genuine(*arguments, **options)

        monkeypatch.setattr(pipeline, "prune_unstructured", spy)
        next(results)

    def test_scores_that_nobody_named_lie_beside_the_output_and_go(self, bert, tmp_path):
        results = gaprune.prune_many(bert, criterion="magnitude", sparsity=(0.3, 0.5), out=tmp_path / "deep" / "out")
        next(results)
        folder = next(tmp_path.glob(".gaprune-*"))
        assert [4 * 32 * 48 * 4 < file.stat().st_size < 30_000 for file in folder.iterdir()] == [True]
        del results
        assert [path.name for path in tmp_path.iterdir()] == ["deep"]

    def test_no_room_for_the_scores_is_found_before_measuring(
        self, bert, toy_triplets, tmp_path, never_measured, monkeypatch
    ):
        monkeypatch.setattr("gaprune.util.tensor_store.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(OutputError, match="free there") as caught:
            gaprune.prune(bert, domain=toy_triplets, out=tmp_path / "out")
        assert caught.value.remedy == "Make room, or name a file on another disk: --scores FILE."
        assert not list(tmp_path.iterdir())


def _killed(**options):
    """Prune in a process that is killed when all scores are written, before the file has its name."""
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    gaprune.prune(**options)


@pytest.fixture(scope="module")
def kept(folder_of, toy_triplets, tmp_path_factory):
    """Scores of a run, and the function that runs it again with changes."""
    path = tmp_path_factory.mktemp("kept") / "scores" / "dai.safetensors"
    base = {"model": folder_of("bert"), "domain": toy_triplets, "general": GENERAL, "scores": path}
    base |= {"sparsity": 0.4, "batch_size": 4, "device": "cpu", **BOTH}

    def run(**changes):
        return gaprune.prune(**(base | changes))

    run.first = run()
    run.path = path
    return run


class TestScoresKept:
    def test_the_second_run_does_not_measure(self, kept, measured):
        again = kept()
        assert not measured
        assert same(state_of(again.model), state_of(kept.first.model))

    def test_two_runs_at_the_same_time_measure_once(self, folder_of, toy_triplets, tmp_path, measured):
        def run(_):
            options = {"scores": tmp_path / "scores", "batch_size": 4, "device": "cpu", "reconstruct": False}
            return gaprune.prune(folder_of("bert"), domain=toy_triplets, criterion="obd", **options)

        with ThreadPoolExecutor(2) as executor:
            first, second = executor.map(run, range(2))
        assert measured == {"domain": 1}
        assert same(state_of(first.model), state_of(second.model))
        assert [path.name for path in tmp_path.iterdir()] == ["scores"]

    def test_two_runs_after_one_that_was_killed_while_it_wrote(self, folder_of, toy_triplets, tmp_path, measured):
        scores = tmp_path / "kept" / "scores"
        options = {"criterion": "obd", "batch_size": 4, "device": "cpu", "reconstruct": False}
        options["domain"] = str(triplets_file(tmp_path / "domain.jsonl", toy_triplets))
        killed = server().Process(
            target=_killed, kwargs={"model": str(folder_of("bert")), "scores": str(scores), **options}
        )
        killed.start()
        killed.join(120)
        assert killed.exitcode == -signal.SIGKILL
        assert not scores.exists()
        assert list(scores.parent.glob(".scores.*"))
        whole = gaprune.prune(folder_of("bert"), **options)
        first, second = (gaprune.prune(folder_of("bert"), scores=scores, **options) for _ in range(2))
        assert measured == {"domain": 2}, "once without scores, and once by the first run with them"
        assert same(state_of(first.model), state_of(whole.model))
        assert same(state_of(second.model), state_of(whole.model))
        assert [path.name for path in scores.parent.iterdir()] == ["scores"]

    def test_another_sparsity_is_asked_of_them(self, kept, measured):
        again = kept(sparsity=0.7, allocation="row")
        fresh = kept(sparsity=0.7, allocation="row", scores=None)
        assert measured == {"domain": 1, "general": 1}, "of the fresh run"
        assert same(state_of(again.model), state_of(fresh.model))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"general": GENERAL[:4]}, "general triplets"),
            ({"domain": GENERAL}, "domain triplets"),
            ({"criterion": "obd"}, "criterion, criterion options, general triplets"),
            ({"criterion": "dai:general_share=0.3"}, "criterion options"),
            ({"targets": "all"}, "linear layers"),
            ({"ignore": "re:.*1.output.dense"}, "linear layers"),
            ({"seed": 1}, "seed"),
            ({"query_prompt": "cash "}, "prompts"),
            ({"max_length": 9}, "max_length"),
            ({"fisher": "batch"}, "fisher"),
            ({"negatives": "explicit"}, "negatives"),
            ({"temperature": 0.1}, "temperature"),
            ({"batch_size": 3}, "batch size"),
            ({"triplets": 4}, "domain triplets, general triplets"),
            ({"dtype": "bfloat16"}, "parent, precision"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_what_differs_is_named(self, kept, never_measured, changes, named):
        content = kept.path.read_bytes()
        with pytest.raises(ConfigError) as caught:
            kept(**changes)
        assert caught.value.problem.startswith(f"scores: {kept.path} ")
        assert caught.value.problem.endswith(f": {named}.")
        assert kept.path.read_bytes() == content

    def test_another_parent(self, kept, folder_of, never_measured):
        model = load_model(folder_of("bert"), device="cpu")
        with torch.no_grad():
            model.get_parameter("0.model.embeddings.LayerNorm.bias")[0] += 1
        with pytest.raises(ConfigError, match=r"scores: .*: parent"):
            kept(model=model, device=None)

    def test_weight_updates_come_from_kept_grams(self, bert, toy_triplets, tmp_path, measured):
        options = {"domain": toy_triplets, "criterion": "sparsegpt", "targets": "all"}
        path = tmp_path / "scores.safetensors"
        first, second = (gaprune.prune(bert, scores=path, **options) for _ in range(2))
        assert measured == {"domain": 1}
        assert same(state_of(first.model), state_of(second.model))

    def test_random_scores_depend_on_the_seed_alone(self, bert, tmp_path):
        options = {"criterion": "random", "scores": tmp_path / "random.safetensors"}
        gaprune.prune(bert, **options)
        gaprune.prune(bert, fisher="batch", **options)
        with pytest.raises(ConfigError, match=r"scores: .*: seed"):
            gaprune.prune(bert, seed=1, **options)

    @pytest.mark.parametrize("place", ["out/scores.safetensors", "out/sparsity-0.5/a/b.safetensors", "out"])
    def test_scores_inside_the_output_are_refused_at_once(self, bert, toy_triplets, tmp_path, never_measured, place):
        sparsity = (0.5, 0.6) if "sparsity" in place else 0.5
        with pytest.raises(ConfigError, match="lies in the output folder"):
            gaprune.prune_many(
                bert,
                domain=toy_triplets,
                general=GENERAL,
                sparsity=sparsity,
                out=tmp_path / "out",
                scores=tmp_path / place,
            )
        assert not list(tmp_path.iterdir())

    def test_scores_that_could_not_be_kept_are_refused_at_once(self, bert, toy_triplets, tmp_path, never_measured):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="not writable"):
            gaprune.prune(bert, domain=toy_triplets, general=GENERAL, scores=tmp_path / "file" / "scores.safetensors")


class TestOutputSafety:
    def test_an_existing_folder_is_refused_before_anything_is_read(self, tmp_path, never_measured):
        (tmp_path / "out").mkdir()
        with pytest.raises(OutputError, match="out exists") as caught:
            gaprune.prune("no-such-model", domain="no-such.jsonl", out=tmp_path / "out")
        assert "--overwrite" in caught.value.remedy

    def test_overwrite_replaces(self, bert, tmp_path):
        out = tmp_path / "out"
        gaprune.prune(bert, criterion="magnitude", sparsity=0.3, out=out)
        (out / "stale.txt").write_text("of the first run")
        second = gaprune.prune(bert, criterion="magnitude", sparsity=0.6, out=out, overwrite=True)
        opened = SentenceTransformer(str(out), device="cpu")
        assert zeros_in(opened, second.change.keep) == round(0.6 * second.change.size)
        assert not (out / "stale.txt").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_overwrite_deletes_no_folder_that_is_no_model(self, bert, tmp_path, never_measured):
        (tmp_path / "thesis.txt").write_text("three years of work")
        with pytest.raises(OutputError, match="neither empty nor made by GAPrune"):
            gaprune.prune(bert, domain="no-such.jsonl", out=tmp_path, overwrite=True)
        assert (tmp_path / "thesis.txt").read_text() == "three years of work"

    def test_overwrite_deletes_no_model_of_others(self, bert, folder_of, tmp_path, never_measured):
        shutil.copytree(folder_of("bert"), tmp_path / "theirs")
        with pytest.raises(OutputError, match=r"neither empty nor made by GAPrune \(no gaprune\.json\)"):
            gaprune.prune(bert, domain="no-such.jsonl", out=tmp_path / "theirs", overwrite=True)
        assert SentenceTransformer(str(tmp_path / "theirs"), device="cpu")

    @pytest.mark.parametrize("option", ["model", "domain", "general", "tasks"])
    def test_no_output_replaces_an_input(self, bert, toy_triplets, tmp_path, option, never_measured):
        out = tmp_path / "out"
        gaprune.prune(bert, criterion="magnitude", sparsity=0.3, out=out)
        inputs = {"model": "no-such-model", "domain": triplets_file(tmp_path / "domain.jsonl", toy_triplets)}
        inputs[option] = out if option == "model" else triplets_file(out / "mine.jsonl", toy_triplets)
        with pytest.raises(ConfigError, match=rf"^out: .*out would replace the {option} "):
            gaprune.prune(inputs.pop("model"), **inputs, out=out, overwrite=True)
        assert (out / "gaprune.json").is_file()

    def test_a_failure_while_saving_leaves_the_old_model(self, bert, tmp_path, monkeypatch):
        out = tmp_path / "out"
        gaprune.prune(bert, criterion="magnitude", sparsity=0.3, out=out)
        before = {path: hashlib.sha256(path.read_bytes()).digest() for path in out.rglob("*") if path.is_file()}

        def fail(self, path, **_kwargs):
            (Path(path) / "model.safetensors").write_text("half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SentenceTransformer, "save_pretrained", fail)
        with pytest.raises(OutputError, match=r"cannot be written to .*No space left on device"):
            gaprune.prune(bert, criterion="magnitude", sparsity=0.6, out=out, overwrite=True)
        after = {path: hashlib.sha256(path.read_bytes()).digest() for path in out.rglob("*") if path.is_file()}
        assert after == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_an_unwritable_place_is_refused_before_anything_is_read(self, tmp_path, monkeypatch, never_measured):
        monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
        with pytest.raises(OutputError, match=f"{tmp_path} is not writable"):
            gaprune.prune("no-such-model", domain="no-such.jsonl", out=tmp_path / "deep" / "out")
        assert not list(tmp_path.iterdir())


class TestDataThatIsNotUsed:
    def test_its_faults_are_found_all_the_same(self, bert, toy_triplets, tmp_path, never_measured):
        with pytest.raises(DataError, match=r"nosuch\.jsonl: does not exist"):
            gaprune.prune(bert, domain=toy_triplets, general=tmp_path / "nosuch.jsonl")
        with pytest.raises(DataError, match=r"nosuch\.jsonl: does not exist"):
            gaprune.prune(bert, criterion="magnitude", domain=tmp_path / "nosuch.jsonl")

    def test_hub_ids_are_not_looked_up(self, bert):
        assert gaprune.prune(bert, criterion="magnitude", general="org/data").change.zeros


class TestColumnsOfEitherSide:
    def test_each_has_its_own(self, folder_of, toy_triplets, tmp_path):
        files = {}
        for kind, name in (("domain", "title"), ("general", "head")):
            rows = [{name: item.query, "positive": item.positive} for item in toy_triplets]
            files[kind] = tmp_path / f"{kind}.jsonl"
            files[kind].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        columns = {"columns": {"query": "title"}, "general_columns": {"query": "head"}}
        result = gaprune.prune(folder_of("bert"), **files, **columns, **BOTH, device="cpu")
        assert result.provenance().calibration.general.triplets == len(toy_triplets)


class TestResult:
    def test_it_shows_itself_in_a_line(self, bert):
        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.5)
        assert repr(result).startswith("Result('magnitude', 50.00 % of ")
        assert "\n" not in repr(result)

    def test_files_are_as_readable_as_the_umask_allows(self, bert, tmp_path):
        out = gaprune.prune(bert, criterion="magnitude", out=tmp_path / "out").out
        modes = {path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
        (tmp_path / "plain").write_text("")
        assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}


class TestTripletsInPython:
    def test_a_list_is_a_set(self, bert, toy_triplets):
        listed = gaprune.prune(bert, domain=list(toy_triplets))
        given = gaprune.prune(bert, domain=toy_triplets)
        assert all(torch.equal(mask, given.change.keep[name]) for name, mask in listed.change.keep.items())

    def test_anything_else_is_refused(self, bert):
        with pytest.raises(DataError, match=r"^domain: item 1 is a tuple, not a Triplet\."):
            gaprune.prune(bert, domain=[("q", "p", "n")])
        with pytest.raises(DataError, match=r"^domain: item 1 is a str, not a Triplet\."):
            gaprune.prune(bert, domain=pd.DataFrame([("q", "p")], columns=["query", "positive"]))

    def test_a_model_of_transformers_is_no_model(self, bert):
        with pytest.raises(ModelError, match="a BertModel, not a SentenceTransformer"):
            gaprune.prune(bert.transformers_model, criterion="magnitude", sparsity=0.5)


class TestHubData:
    @pytest.mark.parametrize("option", ["subset", "split"])
    def test_a_part_of_a_file_makes_no_sense(self, folder_of, toy_triplets, tmp_path, option):
        source = triplets_file(tmp_path / "domain.jsonl", toy_triplets)
        with pytest.raises(ConfigError, match=rf"^{option}: .*domain\.jsonl is a file"):
            gaprune.prune(folder_of("bert"), domain=source, device="cpu", **{option: "train"})

    def test_the_part_named_is_read(self, folder_of, toy_triplets, monkeypatch):
        asked = {}

        def read(source, **options):
            asked.update(options, source=source)
            return toy_triplets

        monkeypatch.setattr("gaprune.data.read.read_triplets", read)
        gaprune.prune(folder_of("bert"), domain="org/data", device="cpu", subset="triplet", split="dev")
        assert (asked["source"], asked["subset"], asked["split"]) == ("org/data", "triplet", "dev")


class TestRefusedBeforeMeasuring:
    @pytest.mark.parametrize("value", [0, 1, 1.5, -0.5, ()])
    def test_sparsity(self, value, never_measured):
        with pytest.raises(ConfigError, match=r"^sparsity: "):
            gaprune.prune("no-such-model", sparsity=value)

    def test_no_model(self):
        with pytest.raises(ConfigError, match=r"^model: no parent model is named"):
            gaprune.prune(criterion="magnitude")

    def test_no_domain(self, bert, never_measured):
        with pytest.raises(ConfigError, match=r"^domain: .* none are named") as caught:
            gaprune.prune(bert)
        assert "--domain FILE" in caught.value.remedy

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("model", "some/other"),
            ("revision", "main"),
            ("trust_remote_code", True),
            ("device", "cpu"),
            ("dtype", "bfloat16"),
            ("max_length", 9),
        ],
    )
    def test_how_to_load_a_model_that_is_loaded(self, bert, option, value):
        with pytest.raises(ConfigError, match=f"^{option}: the parent is a loaded model"):
            gaprune.prune(bert, criterion="magnitude", recipe={option: value})

    def test_unknown_criterion(self):
        with pytest.raises(ConfigError, match=r"Unknown criterion 'dia'\. Did you mean 'dai'"):
            gaprune.prune("no-such-model", criterion="dia")

    def test_unknown_option(self):
        with pytest.raises(ConfigError, match=r"Unknown option 'sparsty'\. Did you mean 'sparsity'"):
            gaprune.prune("no-such-model", sparsty=0.5)

    def test_allocation_beyond_the_matrix_of_a_sweep(self):
        with pytest.raises(ConfigError, match=r"sparsegpt updates weights in one sweep .* by matrix, not global"):
            gaprune.prune("no-such-model", criterion="sparsegpt", allocation="global")

    def test_targets_that_match_nothing(self, bert, toy_triplets, never_measured):
        with pytest.raises(SelectionError, match="'encoder' matches none of the model's"):
            gaprune.prune(bert, domain=toy_triplets, general=GENERAL, targets="encoder")

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite(self, bert, toy_triplets, never_measured, value):
        with torch.no_grad():
            bert.get_parameter("0.model.encoder.layer.1.output.dense.weight")[3, 4] = value
        with pytest.raises(ModelError, match=r"encoder\.layer\.1\.output\.dense\.weight: .* NaN or infinite"):
            gaprune.prune(bert, domain=toy_triplets, general=GENERAL, targets="attention")

    def test_too_few_triplets(self, bert, toy_triplets, never_measured):
        with pytest.raises(ConfigError, match=r"triplets: 7 asked for, general\.jsonl holds 6"):
            gaprune.prune(bert, domain=toy_triplets, general=GENERAL, triplets=7, **BOTH)

    def test_explicit_negatives_missing_on_the_general_side(self, bert, toy_triplets, tmp_path, never_measured):
        file = tmp_path / "pairs.jsonl"
        file.write_text('{"query": "a", "positive": "b"}\n', encoding="utf-8")
        with pytest.raises(DataError, match=r"pairs\.jsonl:1: has no negative"):
            gaprune.prune(bert, domain=toy_triplets, general=file, negatives="explicit", **BOTH)

    def test_columns_of_the_domain_leave_the_default_general_data_alone(self, bert, toy_triplets, monkeypatch):
        asked = {}

        def general(source, **options):
            asked.update(options, source=source)
            return GENERAL

        monkeypatch.setattr(calibration_data, "read_general", general)
        gaprune.prune(bert, domain=toy_triplets, columns={"query": "frage"}, **BOTH)
        assert asked["source"] is asked["columns"] is None

    @pytest.mark.parametrize(("options", "count"), [({}, 7), ({"triplets": 3}, 3), ({"general_split": "train"}, 60)])
    def test_as_many_are_drawn_of_the_default_general_data(self, bert, toy_triplets, monkeypatch, options, count):
        monkeypatch.setattr("datasets.load_dataset", lambda *_args, **_options: nli(60))
        result = gaprune.prune(bert, domain=toy_triplets, reconstruct=False, **BOTH, **options)
        assert result.calibration.general.triplets == count


class TestRecipes:
    def test_file_mapping_and_object_alike(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text("criterion: obd\nsparsity: 0.4\nseed: 3\n", encoding="utf-8")
        options = {"criterion": "obd", "sparsity": 0.4, "seed": 3}
        for recipe in (path, str(path), options, Recipe(**options)):
            built = build_recipe(recipe, seed=5, criterion=None)
            assert (built.criterion, built.sparsity, built.seed) == ("obd", (0.4,), 5)
        assert build_recipe() == Recipe()

    def test_a_pattern_survives_a_second_building(self):
        built = build_recipe(build_recipe(granularity="2:4"), seed=2)
        assert (built.pattern, built.sparsity, built.seed) == ((2, 4), (0.5,), 2)

    def test_prune_reads_one(self, folder_of, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(f"model: {folder_of('bert')}\ncriterion: magnitude\nsparsity: 0.4\ndevice: cpu\n", "utf-8")
        result = gaprune.prune(recipe=path, sparsity=0.25)
        assert result.sparsity == 0.25
        assert result.recipe.criterion == "magnitude"


class TestTextLength:
    def test_calibration_is_cut_and_the_saved_model_is_not(self, folder_of, toy_triplets, tmp_path):
        own = load_model(folder_of("bert"), device="cpu").max_seq_length
        results = [
            gaprune.prune(folder_of("bert"), domain=toy_triplets, device="cpu", max_length=length, sparsity=0.5)
            for length in (None, 4)
        ]
        assert results[1].model.max_seq_length == 4
        masks = [torch.cat([mask.flatten() for mask in result.change.keep.values()]) for result in results]
        assert not torch.equal(*masks)
        results[1].save(tmp_path / "out")
        assert SentenceTransformer(str(tmp_path / "out"), device="cpu").max_seq_length == own
        assert results[1].model.max_seq_length == 4


class TestProvenance:
    def test_everything_that_made_it(self, folder_of, toy_triplets, tmp_path):
        from importlib.metadata import version

        from gaprune.models.fingerprints import weights_fingerprint

        tasks, parent = tasks_folder(tmp_path / "tasks"), folder_of("xlm-roberta")
        gaprune.prune(
            parent,
            domain=toy_triplets,
            general=GENERAL,
            sparsity=0.4,
            seed=11,
            triplets=5,
            tasks=tasks,
            device="cpu",
            out=tmp_path / "out",
            **BOTH,
        )
        said = json.loads((tmp_path / "out" / "gaprune.json").read_text(encoding="utf-8"))
        recipe = said["recipe"]
        assert (recipe["seed"], recipe["sparsity"], recipe["triplets"]) == (11, [0.4], 5)
        assert recipe["criterion"].startswith("dai")
        assert recipe.keys() == Recipe.model_fields.keys()
        assert said["parent"]["name"] == model_name(parent)
        assert said["parent"]["weights_sha256"] == weights_fingerprint(load_model(parent, device="cpu"))
        for package in ("gaprune", "torch", "transformers", "sentence-transformers", "safetensors"):
            assert said["versions"][package] == version(package)
        for kind, triplets in (("domain", toy_triplets), ("general", GENERAL)):
            drawn = triplets.take(5, seed=11)
            assert said["calibration"][kind] == {
                "name": triplets.name,
                "triplets": 5,
                "with_own_negatives": sum(bool(item.negatives) for item in drawn),
                "mined_negatives_each": 0,
                "sha256": drawn.fingerprint,
            }
        assert said["prompts"] == {"query": "query: ", "passage": "passage: "}
        assert (
            said["method"]["options"]
            == create("dai", {"general_share": 0.2, "reconstruction_aware": False}).model_dump()
        )
        assert said["made"].endswith("+00:00")
        by_task = {score["task"]: score for score in said["evaluation"]["scores"]}
        assert by_task.keys() == {"Search", "Similar"}
        model, dense = load_model(tmp_path / "out", device="cpu"), load_model(parent, device="cpu")
        again = gaprune.evaluate(model, tasks=tasks, parent=dense)
        for score in again.scores:
            assert by_task[score.task]["value"] == pytest.approx(score.value)
            assert by_task[score.task]["parent"] == pytest.approx(score.parent)

    def test_inspect(self, bert, tmp_path):
        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.3, out=tmp_path / "out")
        footprint, provenance = gaprune.inspect(tmp_path / "out", device="cpu")
        assert footprint == result.footprint
        assert provenance == result.provenance()
        assert gaprune.inspect(bert)[1] is None

    def test_a_result_is_saved_and_evaluated_later(self, bert, tmp_path):
        tasks = gaprune.find_tasks(tasks_folder(tmp_path / "tasks"))
        result = gaprune.prune(bert, criterion="magnitude", sparsity=0.3)
        assert result.evaluation is None
        assert not (tmp_path / "later").exists()
        evaluated = result.evaluate(tasks, parent=bert)
        assert evaluated.save(tmp_path / "later") == tmp_path / "later"
        card = (tmp_path / "later" / "README.md").read_text(encoding="utf-8")
        assert "## Evaluation" in card
        assert f"| finance | Search | nDCG@10 | {evaluated.evaluation.scores[0].value:.4f} |" in card


@pytest.mark.genuine
def test_the_papers_formula_ranks_almost_like_magnitude(genuine):
    """SCIENCE.md, 1: at the published constants the MLP mask is the magnitude mask's, here computed by hand."""
    from gaprune.data.read import read_triplets
    from gaprune.data.samples import sample_triplets
    from gaprune.models.prompts import Prompts
    from gaprune.statistics.measure import measure

    model = load_model(genuine, device="cpu", max_length=48)
    chosen = [matrix for matrix in linear_layers(model) if matrix.kind == "mlp"]
    options = Recipe(fisher="batch")
    domain, general = (
        measure(
            model,
            read_triplets(sample_triplets(name)).take(12, seed=0),
            chosen,
            statistics={"fisher", "gradient"},
            prompts=Prompts(),
            options=options,
        )
        for name in ("finance", "general")
    )

    def by_hand(matrix) -> np.ndarray:
        weight = np.abs(matrix.module.weight.detach().numpy())
        fisher = (domain[matrix.name].fisher - general[matrix.name].fisher).numpy()
        unit = [side[matrix.name].gradient.numpy() for side in (domain, general)]
        product = np.pad(np.prod([each / np.linalg.norm(each) for each in unit], axis=0), 1)
        rows, columns = weight.shape
        smooth = sum(product[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 9
        return (fisher * weight + 0.5 * np.sqrt(weight)) * np.clip(1 + 0.2 * smooth, 0.8, 1.2)

    scores = np.concatenate([by_hand(matrix).ravel() for matrix in chosen])
    magnitudes = np.concatenate([np.abs(matrix.module.weight.detach().numpy()).ravel() for matrix in chosen])

    def stays(values: np.ndarray) -> np.ndarray:
        keep = np.ones(len(values), dtype=bool)
        keep[np.argpartition(values, len(values) // 2)[: len(values) // 2]] = False
        return keep

    agreement = float((stays(scores) == stays(magnitudes)).mean())
    print(f"dai-paper and magnitude agree in {agreement:.4%} of {len(scores):,} MLP weights")  # noqa: T201
    assert agreement > 0.99
