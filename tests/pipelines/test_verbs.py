"""The verbs ``evaluate`` and ``inspect``: paths or models, and everything cheap checked before one is loaded."""

from __future__ import annotations

import sys

import pytest

import gaprune
from gaprune.config.options import ENCODING_BATCH_SIZE
from gaprune.errors import ConfigError, DataError, MissingExtraError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate as evaluate_tasks
from gaprune.models import exported_module
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.pipelines import evaluate as evaluating
from toys import tasks_folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return tasks_folder(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def pruned(bert):
    return gaprune.prune(bert, criterion="magnitude", sparsity=0.8, targets="all").model


@pytest.fixture
def never_loaded(monkeypatch):
    def fail(*_args, **_kwargs):
        raise AssertionError("loaded before everything was checked")

    monkeypatch.setattr(exported_module, "open_model", fail)


def values(found):
    return [(score.task, score.value, score.parent) for score in found.scores]


class TestEvaluate:
    def test_folders_and_loaded_models_alike(self, bert, pruned, folder_of, tasks, tmp_path):
        pruned.save_pretrained(str(tmp_path), create_model_card=False)
        found = find_tasks(tasks)
        wanted = values(evaluate_tasks(pruned, found, parent=bert))
        assert values(gaprune.evaluate(pruned, tasks=found, parent=bert)) == wanted
        assert values(gaprune.evaluate(tmp_path, tasks=str(tasks), parent=folder_of("bert"), device="cpu")) == wanted
        assert values(gaprune.evaluate(str(tmp_path), tasks=tasks, parent=bert)) == wanted

    def test_without_a_parent(self, bert, tasks):
        assert all(score.parent is None for score in gaprune.evaluate(bert, tasks=tasks).scores)

    def test_prompts_and_length_reach_the_tasks(self, bert, folder_of, tasks):
        cut = load_model(folder_of("bert"), device="cpu", max_length=5)
        prompts = Prompts(query="cash ", passage="")
        wanted = values(evaluate_tasks(cut, find_tasks(tasks), prompts=prompts))
        found = gaprune.evaluate(folder_of("bert"), tasks=tasks, query_prompt="cash ", max_length=5, device="cpu")
        assert values(found) == wanted

    def test_each_model_keeps_the_prompt_that_is_not_given(self, bert, folder_of, tasks):
        parent = load_model(folder_of("bert"), device="cpu")
        parent.prompts = {"query": "", "passage": "the loan "}
        found = gaprune.evaluate(bert, tasks=tasks, parent=parent, query_prompt="cash ")
        own = (Prompts(query="cash ", passage=passage) for passage in (None, "the loan "))
        for model, prompts, kind in zip((bert, parent), own, ("value", "parent"), strict=True):
            alone = evaluate_tasks(model, find_tasks(tasks), prompts=prompts)
            assert [getattr(score, kind) for score in found.scores] == [score.value for score in alone.scores]

    def test_a_benchmark(self, bert, pruned, monkeypatch):
        asked = []
        monkeypatch.setattr(evaluating, "resolve_benchmark", asked.append)
        monkeypatch.setattr(evaluating, "evaluate_benchmark", lambda *args, **options: asked.append((args, options)))
        gaprune.evaluate(pruned, benchmark="Small", parent=bert)
        assert asked == ["Small", ((pruned, "Small"), {"parent": bert, "batch_size": ENCODING_BATCH_SIZE})]

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({}, "^tasks, benchmark: give exactly one"),
            ({"tasks": [], "benchmark": "finance"}, "^tasks, benchmark: give exactly one"),
            ({"benchmark": "finance", "passage_prompt": ""}, "^query_prompt, passage_prompt: mteb takes"),
            ({"tasks": []}, "^tasks: there are no tasks"),
            ({"tasks": [], "batch_size": 0}, "^batch_size: 0 is below 1"),
            ({"tasks": [], "dtyp": "float32"}, "^Unknown option 'dtyp'. Did you mean 'dtype'"),
            ({"tasks": [], "revision": "v1", "parent": "hub/other"}, "^revision: .* both are"),
        ],
    )
    def test_what_makes_no_sense_is_refused_first(self, never_loaded, options, problem):
        with pytest.raises(ConfigError, match=problem):
            gaprune.evaluate("hub/model", **options)

    def test_missing_tasks_and_extras_are_told_first(self, never_loaded, tmp_path, monkeypatch):
        with pytest.raises(DataError, match="does not exist"):
            gaprune.evaluate("hub/model", tasks=tmp_path / "no")
        monkeypatch.setitem(sys.modules, "mteb", None)
        with pytest.raises(MissingExtraError, match="mteb"):
            gaprune.evaluate("hub/model", benchmark="finance")

    @pytest.mark.parametrize(
        ("option", "value"),
        [("device", "cpu"), ("dtype", "float32"), ("revision", "v1"), ("max_length", 5), ("trust_remote_code", True)],
    )
    @pytest.mark.parametrize("role", ["model", "parent"])
    def test_how_to_load_what_is_loaded(self, never_loaded, bert, tasks, option, value, role):
        models = {"model": "hub/model", "parent": "hub/parent"} | {role: bert}
        with pytest.raises(ConfigError, match=f"^{option}: the {role} is a loaded model"):
            gaprune.evaluate(**models, tasks=tasks, **{option: value})

    def test_a_revision_is_of_the_model_on_the_hub(self, bert, folder_of, tasks, monkeypatch):
        asked = []
        monkeypatch.setattr(
            exported_module, "open_model", lambda name, **options: asked.append((name, options)) or bert
        )
        gaprune.evaluate(folder_of("bert"), tasks=tasks, parent="hub/parent", revision="v1", device=None)
        assert asked == [(folder_of("bert"), {"revision": "v1"}), ("hub/parent", {"revision": "v1"})]


class TestInspect:
    def test_options_reach_the_loading(self, folder_of):
        full, half = (gaprune.inspect(folder_of("bert"), device="cpu", dtype=dtype)[0] for dtype in (None, "bfloat16"))
        assert full.bytes == 2 * half.bytes

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"dtype": "float32"}, "^dtype: the model is a loaded model"),
            ({"max_length": 5}, "^Unknown option 'max_length'"),
            ({"devise": "cpu"}, "^Unknown option 'devise'. Did you mean 'device'"),
        ],
    )
    def test_options_without_effect(self, bert, options, problem):
        with pytest.raises(ConfigError, match=problem):
            gaprune.inspect(bert, **options)

    def test_a_folder_has_no_revision(self, never_loaded, folder_of):
        with pytest.raises(ConfigError, match=r"^revision: .* none is"):
            gaprune.inspect(folder_of("bert"), revision="v1")
