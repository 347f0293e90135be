"""Folders in the wild: weights, tokens or files that are missing, pointers of Git LFS, adapters that are left over."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from gaprune.errors import ModelError
from gaprune.models.load import load_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def folder(folder_of, tmp_path):
    return shutil.copytree(folder_of("bert"), tmp_path / "model")


def _weights(folder, change):
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _one_layer_missing(folder):
    _weights(folder, lambda found: {name: each for name, each in found.items() if "layer.1.inter" not in name})


def _foreign_names(folder):
    _weights(folder, lambda found: {f"other.{name}": each for name, each in found.items()})


def _pointer(folder):
    (folder / "model.safetensors").write_text(POINTER, encoding="utf-8")


def _no_tokens(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _adapter_left(folder):
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "task_type": None}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _other_sizes(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_one_layer_missing, r"lacks 2 weights .* such as encoder\.layer\.1\.intermediate\.dense\.weight"),
        (_foreign_names, r"lacks 37 weights .* such as embeddings\.word_embeddings\.weight"),
        (_pointer, r"(?s)cannot be loaded.*model\.safetensors is a pointer of Git LFS"),
        (_no_tokens, "a tokenizer without a vocabulary"),
        (_adapter_left, r"(?s)cannot be loaded.*Merge the adapter.*remove adapter_config\.json"),
        (_other_sizes, r"(?s)cannot be loaded.*other sizes than config\.json"),
    ],
)
def test_what_would_load_as_another_model_is_refused(folder, damage, words):
    damage(folder)
    with pytest.raises(ModelError, match=words):
        load_model(folder, device="cpu")


def test_weights_that_no_embedding_reads_may_be_missing_or_left_over(folder, folder_of):
    def change(found):
        return {f"bert.{name}": each for name, each in found.items() if "pooler" not in name} | {
            "cls.bias": found["embeddings.LayerNorm.bias"].clone()
        }

    _weights(folder, change)
    texts = ["a dog runs", "cash"]
    expected = load_model(folder_of("bert"), device="cpu").encode(texts)
    assert load_model(folder, device="cpu").encode(texts) == pytest.approx(expected, abs=1e-6)


def test_a_folder_of_transformers_alone_is_opened_and_its_modules_are_said(folder, capsys):
    (folder / "modules.json").unlink()
    load_model(folder, device="cpu")
    assert "no modules.json" in capsys.readouterr().err
