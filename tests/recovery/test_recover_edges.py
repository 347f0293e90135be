"""What recovery does at its edges: limits of text length, zeros that are not held, places, negatives that are few."""

from __future__ import annotations

import copy

import pytest

import gaprune
from gaprune.config.recovery import RecoveryOptions
from gaprune.data.mining import mine_negatives
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.evaluation.cost.footprint import footprint
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.recovery.data import read_recovery_data
from toys import GENERAL, nli, tasks_folder

QUICK = {"steps": 2, "batch_size": 6, "held_out": 0, "learning_rate": 1e-2}


def test_texts_are_cut_in_training_alone(bert, many, tmp_path):
    parent = copy.deepcopy(bert)
    own = bert.max_seq_length
    tasks = tasks_folder(tmp_path / "tasks")
    options = {"max_length": 4, "distil": True, "teacher_cache": tmp_path / "cache", **QUICK}
    result = gaprune.recover(bert, domain=many, parent=parent, tasks=tasks, **options)
    assert bert.max_seq_length == parent.max_seq_length == result.model.max_seq_length == own
    whole = gaprune.evaluate(result.model, tasks=find_tasks(tasks), parent=parent)
    assert [(score.value, score.parent) for score in result.evaluation.scores] == [
        (score.value, score.parent) for score in whole.scores
    ]


def test_zeros_that_are_not_held_are_counted_anew(bert, many, tmp_path):
    gaprune.prune(bert, criterion="magnitude", targets="mlp", sparsity=0.5, out=tmp_path / "pruned")
    result = gaprune.recover(tmp_path / "pruned", domain=many, targets="attention", device="cpu", **QUICK)
    zeros = {each.name: each.zeros for each in footprint(result.model).linear_layers}
    said = result.provenance().sparsity
    assert said.removed == sum(zeros[name] for name in said.by_linear_layer) < said.selected / 4
    assert said.of_selected == said.removed / said.selected
    held = gaprune.recover(tmp_path / "pruned", domain=many, device="cpu", **QUICK)
    assert held.provenance().sparsity.of_selected == pytest.approx(0.5, abs=0.01)


def test_negatives_of_their_own_that_are_too_few_are_not_mined_for():
    items = [Triplet(f"q{i}", f"p{i}", ("only one",) if i == 3 else (), f"f:{i}") for i in range(8)]
    options = RecoveryOptions(mine_negatives=3, hard_negatives=2, held_out=0, batch_size=2)
    with pytest.raises(DataError, match=r"^f:3: has 1 of the 2 negatives asked for"):
        read_recovery_data(options, domain=Triplets(items, "f"))
    found = read_recovery_data(options, domain=Triplets([each for each in items if not each.negatives], "f"))
    assert found.negatives == 2


@pytest.mark.parametrize(
    ("options", "negatives", "left_out"),
    [({}, 0, True), ({"hard_negatives": 1}, 1, False), ({"mine_negatives": 3}, 1, False)],
    ids=str,
)
def test_negatives_are_trained_on_where_they_are_asked_for(many, options, negatives, left_out):
    corpus = read_recovery_data(RecoveryOptions(held_out=0, batch_size=6, **options), domain=many)
    assert (corpus.negatives, len(corpus.columns)) == (negatives, 2 + negatives)
    assert corpus.as_dict()["negatives_left_out"] is left_out


def test_some_negatives_left_out_are_told_too():
    items = [Triplet(f"q{i}", f"p{i}", ("of one alone",) if i == 3 else ()) for i in range(8)]
    options = RecoveryOptions(held_out=0, batch_size=2)
    assert read_recovery_data(options, domain=Triplets(items, "f")).as_dict()["negatives_left_out"]
    bare = [Triplet(each.query, each.positive) for each in items]
    assert not read_recovery_data(options, domain=Triplets(bare, "f")).as_dict()["negatives_left_out"]


def test_few_that_are_held_out_are_mined_for_among_all(bert, many):
    pairs = Triplets([Triplet(each.query, each.positive) for each in many], "pairs")
    options = RecoveryOptions(mine_negatives=8, held_out=0.1, batch_size=6)
    corpus = read_recovery_data(options, domain=pairs)
    assert len(corpus.held_out) == 4
    mined = corpus.mined(bert, [options])
    whole = mine_negatives(pairs, bert, count=8, prompts=resolve_prompts(bert))
    assert {each.query: each.negatives for each in mined.held_out} == {
        each.query: each.negatives for each in whole if each.query in {held.query for held in corpus.held_out}
    }
    trained_on = {text for each in mined.domain for text in each.passages}
    assert trained_on == {each.positive for each in corpus.domain}, "nothing that is held out is trained on"


@pytest.mark.parametrize(("options", "count"), [({}, 20), ({"triplets": 5}, 5), ({"general_split": "train"}, 60)])
def test_as_many_are_drawn_of_the_default_general_data(monkeypatch, options, count):
    monkeypatch.setattr("datasets.load_dataset", lambda *_args, **_options: nli(60))
    domain = Triplets([Triplet(f"q{i}", f"p{i}") for i in range(20)], "domain")
    asked = RecoveryOptions(general_share=0.25, held_out=0, batch_size=4, **options)
    assert len(read_recovery_data(asked, domain=domain).general) == count


@pytest.mark.parametrize(
    ("given", "named", "share"),
    [({}, True, 0.25), ({}, False, 0), ({"general_share": 0}, True, 0), ({"general_share": 0.5}, True, 0.5)],
    ids=str,
)
def test_the_share_of_general_triplets(many, given, named, share):
    options = RecoveryOptions(held_out=0, batch_size=4, steps=6, **given)
    corpus = read_recovery_data(options, domain=many, general=GENERAL if named else None)
    triplets, batches = corpus.plan(options)
    queries = {each.query for each in GENERAL}
    general = sum(triplets[index].query in queries for batch in batches for index in batch)
    assert general == share * 24
    assert corpus.as_dict()["general_share"] == share


class TestPlaces:
    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"checkpoint": "out/kept"}, r"^checkpoint: .*out/kept lies in the output folder"),
            ({"teacher_cache": "out"}, r"^teacher_cache: .*out lies in the output folder"),
        ],
    )
    def test_nothing_else_is_written_into_the_output(self, bert, many, tmp_path, given, problem):
        paths = {name: tmp_path / path for name, path in given.items()}
        paths |= {"distil": "teacher_cache" in given}
        with pytest.raises(ConfigError, match=problem):
            gaprune.recover(bert, domain=many, out=tmp_path / "out", **paths, **QUICK)

    def test_the_parent_is_not_replaced(self, bert, many, tmp_path):
        gaprune.prune(bert, criterion="magnitude", out=tmp_path / "ours")
        asked = {"parent": tmp_path / "ours", "distil": True, "out": tmp_path / "ours", "overwrite": True}
        with pytest.raises(ConfigError, match=r"^out: .*ours would replace the parent .*ours"):
            gaprune.recover(bert, domain=many, **asked, **QUICK)
        assert load_model(tmp_path / "ours", device="cpu")


def test_exported_models_are_refused(many, tmp_path):
    (tmp_path / "exported" / "onnx").mkdir(parents=True)
    (tmp_path / "exported" / "onnx" / "model.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^model: .*exported is exported, and cannot be trained"):
        gaprune.recover(tmp_path / "exported", domain=many, **QUICK)


def test_a_parent_by_name_may_be_told_how_to_load(bert, folder_of, many):
    options = {"distil": True, "device": "cpu", **QUICK}
    assert gaprune.recover(bert, domain=many, parent=folder_of("bert"), **options).training.steps == 2
    with pytest.raises(ConfigError, match=r"^device: the model is a loaded model"):
        gaprune.recover(bert, domain=many, parent=bert, **options)


@pytest.mark.parametrize("named", [True, False])
def test_a_parent_that_nothing_asks_for_is_refused(bert, folder_of, many, named):
    parent = folder_of("bert") if named else bert
    with pytest.raises(ConfigError, match=r"^parent: nothing is distilled from it or evaluated beside it") as caught:
        gaprune.recover(folder_of("bert"), domain=many, parent=parent, **QUICK)
    assert caught.value.remedy == "Leave it out, or ask for --distil, --texts or --tasks."


@pytest.mark.parametrize(
    ("option", "way_out"),
    [
        ("steps", "--recover"),
        ("seed", "prune itself"),
        ("parent", "gaprune recover"),
        ("checkpoint", "gaprune recover"),
    ],
)
def test_options_of_recovery_that_pruning_decides(bert, many, option, way_out):
    with pytest.raises(ConfigError, match=rf"^recovery: {option} is not an option here") as caught:
        gaprune.prune(bert, domain=many, criterion="magnitude", recover=2, recovery={option: "x"})
    assert way_out in caught.value.remedy
