from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from transformers import PreTrainedModel

from gaprune.errors import ConfigError, ModelError
from gaprune.models.demo import local_folder
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts, resolve_prompts


@pytest.fixture
def broken(folder_of, tmp_path):
    """Return a function that copies the tiny BERT and replaces or removes one of its files."""

    def copy(file: str, content: str | None) -> Path:
        folder = tmp_path / "broken"
        shutil.copytree(folder_of("bert"), folder)
        path = folder / file
        if content is None:
            path.unlink()
        else:
            path.write_text(content, encoding="utf-8")
        return folder

    return copy


def _configure(model, **prompts):
    model.prompts = prompts
    return model


class TestLoading:
    def test_every_family_loads_and_embeds(self, model):
        embeddings = model.encode(["a dog runs", "net income of the quarter of 2019"])
        assert embeddings.dtype == np.float32
        assert np.isfinite(embeddings).all()
        assert not np.allclose(embeddings[0], embeddings[1], atol=1e-2)

    def test_padding_changes_nothing(self, model):
        """The families' tokenizers pad as their networks expect."""
        alone = model.encode(["a dog"])
        with_long = model.encode(["a dog", "net income of the quarter was lower than a year before"])[:1]
        np.testing.assert_allclose(alone, with_long, atol=1e-5)

    def test_two_builds_are_alike(self, family, family_folder, tmp_path):
        from families import build

        again = load_model(build(family, tmp_path), device="cpu").state_dict()
        first = load_model(family_folder, device="cpu").state_dict()
        assert again.keys() == first.keys()
        assert all(torch.equal(again[name], first[name]) for name in first)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_dtype(self, folder_of, dtype):
        model = load_model(folder_of("distilbert"), device="cpu", dtype=dtype)
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}

    @pytest.mark.parametrize("max_length", [1, 60])
    def test_max_length(self, folder_of, max_length):
        model = load_model(folder_of("bert"), device="cpu", max_length=max_length)
        assert model.max_seq_length == max_length

    def test_default_max_length_is_the_models(self, bert):
        assert bert.max_seq_length == 60


def test_threads_that_load_at_the_same_time_leave_transformers_as_it_was(folder_of):
    """transformers replaces methods of its classes while it loads, and puts back what it found."""
    before = {name: getattr(PreTrainedModel, name) for name in ("tie_weights", "init_weights")}
    folder = folder_of("bert")
    try:
        with ThreadPoolExecutor(4) as executor:
            list(executor.map(lambda _: load_model(folder, device="cpu"), range(24)))
        after = {name: getattr(PreTrainedModel, name) for name in before}
    finally:
        for name, method in before.items():
            setattr(PreTrainedModel, name, method)
    assert after == before


class TestTheDemonstration:
    def test_the_name_stands_for_the_model_of_the_extra(self, genuine, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert local_folder("demo") == genuine

    def test_a_folder_of_this_name_comes_first(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "demo").mkdir()
        with pytest.raises(ModelError, match="The folder demo holds no model"):
            load_model("demo")


class TestLoadingErrors:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(ModelError, match=r"nothing-here cannot be loaded: there is no such folder") as caught:
            load_model(tmp_path / "nothing-here")
        assert "Give the folder of a sentence-transformers model" in caught.value.remedy

    def test_hub_out_of_reach(self):
        with pytest.raises(ModelError, match="some-organisation/some-model cannot be loaded"):
            load_model("some-organisation/some-model")

    def test_a_hub_that_does_not_answer_is_asked_once(self, monkeypatch, caplog):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match="hub cannot be reached") as caught:
            load_model("some-organisation/some-model")
        assert "demo" in caught.value.remedy
        assert "Retrying" not in caplog.text
        assert constants.HF_HUB_OFFLINE is False

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ModelError, match=r"holds no model \(no \.json configuration\)") as caught:
            load_model(tmp_path)
        assert str(tmp_path) in caught.value.problem

    def test_a_file(self, folder_of):
        with pytest.raises(ModelError, match="is a file, not a directory"):
            load_model(folder_of("bert") / "config.json")

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("model.safetensors", None),
            ("model.safetensors", "not safetensors at all"),
            ("config.json", "{"),
            ("config.json", '{"model_type": "nonsense"}'),
            ("modules.json", "[]"),
            ("modules.json", "[{}]"),
            ("tokenizer.json", "{}"),
            ("1_Pooling/config.json", "{}"),
            ("config_sentence_transformers.json", '{"prompts": {"query": "x"}, "default_prompt_name": "qery"}'),
        ],
    )
    def test_broken_files(self, broken, file, content):
        folder = broken(file, content)
        with pytest.raises(ModelError, match=r"cannot be loaded: .") as caught:
            load_model(folder)
        assert str(folder) in caught.value.problem
        assert caught.value.problem.count("\n") == 0

    def test_remote_code_is_not_run_unasked(self, broken):
        folder = broken("modules.json", json.dumps([{"idx": 0, "name": "0", "path": "", "type": "custom_code.Thing"}]))
        with pytest.raises(ModelError) as caught:
            load_model(folder)
        assert "--trust-remote-code" in caught.value.remedy

    def test_the_checkpoints_own_dtype_is_the_default(self, folder_of, tmp_path):
        load_model(folder_of("qwen3"), device="cpu", dtype="bfloat16").save(str(tmp_path), create_model_card=False)
        model = load_model(tmp_path, device="cpu")
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}

    @pytest.mark.parametrize("dtype", ["float33", "int8", "bool", "nn", ""])
    def test_bad_dtype_is_refused_before_loading(self, dtype):
        with pytest.raises(ConfigError, match=f"dtype: '{dtype}' is not a floating-point torch dtype") as caught:
            load_model("never-looked-at", dtype=dtype)
        assert caught.value.remedy == "Use float32, bfloat16 or float16."

    @pytest.mark.parametrize("max_length", [-1, 0, 61])
    def test_bad_max_length(self, folder_of, max_length):
        with pytest.raises(ConfigError, match=f"max_length: {max_length} is outside 1 to 60, the model's own limit"):
            load_model(folder_of("bert"), device="cpu", max_length=max_length)


class TestPrompts:
    def test_a_model_without_prompts(self, bert):
        prompts = resolve_prompts(bert)
        assert prompts == Prompts("", "")
        assert prompts.of("query") is None
        assert prompts.of("passage") is None

    def test_roles(self):
        prompts = Prompts("Q: ", "P: ")
        assert (prompts.of("query"), prompts.of("passage")) == ("Q: ", "P: ")

    def test_a_families_own(self, folder_of):
        prompts = resolve_prompts(load_model(folder_of("gemma"), device="cpu"))
        assert prompts == Prompts("task: search result | query: ", "title: none | text: ")
        assert resolve_prompts(load_model(folder_of("qwen3"), device="cpu")).passage == ""

    @pytest.mark.parametrize(
        ("own", "passage"),
        [
            ({"document": "D: ", "passage": "P: ", "corpus": "C: "}, "D: "),
            ({"passage": "P: ", "corpus": "C: "}, "P: "),
            ({"corpus": "C: "}, "C: "),
            ({"clustering": "X: "}, ""),
            ({"document": "", "passage": "P: "}, "P: "),
            ({"document": "", "passage": ""}, ""),
        ],
    )
    def test_passage_names_in_their_order(self, bert, own, passage):
        assert resolve_prompts(_configure(bert, **own)).passage == passage

    def test_overrides_and_switching_off(self, folder_of):
        gemma = load_model(folder_of("gemma"), device="cpu")
        assert resolve_prompts(gemma, query="Q: ") == Prompts("Q: ", "title: none | text: ")
        assert resolve_prompts(gemma, passage="P: ") == Prompts("task: search result | query: ", "P: ")
        assert resolve_prompts(gemma, query="", passage="") == Prompts("", "")

    def test_the_default_prompt_stands_in_for_what_is_missing(self, bert):
        _configure(bert, general="G: ").default_prompt_name = "general"
        assert resolve_prompts(bert) == Prompts("G: ", "G: ")
        assert resolve_prompts(bert, passage="") == Prompts("G: ", "")
        _configure(bert, general="G: ", query="Q: ")
        assert resolve_prompts(bert) == Prompts("Q: ", "G: ")

    def test_an_unknown_default_prompt_is_an_error(self, bert):
        _configure(bert, general="G: ").default_prompt_name = "generl"
        with pytest.raises(
            ConfigError, match=r"default prompt 'generl' is not among its prompts\. Did you mean 'general'"
        ):
            resolve_prompts(bert)

    def test_sentence_transformers_finds_the_same(self, model, family):
        """The families' own prompts, as ``encode_query`` and ``encode_document`` apply them."""
        prompts = resolve_prompts(model)
        text = "net income of the quarter"
        np.testing.assert_allclose(model.encode_query(text), model.encode(prompts.query + text, prompt=""), atol=1e-6)
        if family != "xlm-roberta":
            ours = model.encode(prompts.passage + text, prompt="")
            np.testing.assert_allclose(model.encode_document(text), ours, atol=1e-6)

    def test_a_passage_prompt_is_used_where_sentence_transformers_overlooks_it(self, folder_of):
        """A model that names only "passage" is given an empty "document", which ``encode_document`` takes first."""
        model = load_model(folder_of("xlm-roberta"), device="cpu")
        assert (model.prompts["document"], model.prompts["passage"]) == ("", "passage: ")
        assert resolve_prompts(model).passage == "passage: "
        text = "net income of the quarter"
        np.testing.assert_allclose(model.encode_document(text), model.encode(text, prompt=""), atol=1e-6)

    @pytest.mark.parametrize("own", [{}, {"query": "a dog "}, {"passage": "cash "}, {"corpus": "cash ", "query": ""}])
    def test_sentence_transformers_finds_the_same_with_a_default(self, bert, own):
        _configure(bert, general="net income ", **own).default_prompt_name = "general"
        prompts = resolve_prompts(bert)
        text = "of the quarter"
        np.testing.assert_allclose(bert.encode_query(text), bert.encode(prompts.query + text, prompt=""), atol=1e-6)
        np.testing.assert_allclose(
            bert.encode_document(text), bert.encode(prompts.passage + text, prompt=""), atol=1e-6
        )


@pytest.mark.parametrize("device", ["nonsense", "meta"])
def test_a_device_that_cannot_be_used(folder_of, device):
    with pytest.raises(ConfigError, match=rf"^device: '{device}' cannot be used: ") as caught:
        load_model(folder_of("bert"), device=device)
    assert "cpu" in caught.value.remedy
