"""GGUF files of BERT: every weight, and the tokens by llama.cpp's own rule, for a whole and for a cut vocabulary."""

from __future__ import annotations

import re

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

import gaprune
from families import TEXTS
from gaprune.errors import ConfigError, ModelError
from gaprune.models.load import load_model

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module", params=["whole", "cut"])
def exported(request, folder_of, tmp_path_factory):
    """A model with fewer neurons, its vocabulary whole or cut, and its file."""
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "texts.txt").write_text("\n".join(TEXTS[:3]), encoding="utf-8")
    words = {"vocabulary": str(folder / "texts.txt")} if request.param == "cut" else {}
    options = {"criterion": "magnitude", "width": 0.5, "round_to": 8, "device": "cpu", **words}
    gaprune.prune(folder_of("bert"), out=folder / "child", **options)
    out = gaprune.export_model(folder / "child", to="gguf", out=folder / "out").path
    return load_model(folder / "child", device="cpu"), gguf.GGUFReader(out / "model.gguf")


def field(reader, name):
    return reader.get_field(name).contents()


def split(text, tokens):
    """Split a text as llama.cpp does: lower case, words and marks, and of each the longest pieces from the left."""
    ids = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        rest, found = f"▁{word}", []
        while rest:
            piece = next((rest[:end] for end in range(len(rest), 0, -1) if rest[:end] in tokens), None)
            if piece is None:
                found = [tokens["[UNK]"]]
                break
            found.append(tokens[piece])
            rest = rest[len(piece) :]
        ids += found
    return [tokens["[CLS]"], *ids, tokens["[SEP]"]]


def test_every_weight(exported):
    model, reader = exported
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    weights = {name: value for name, value in model[0].model.state_dict().items() if "pooler" not in name}
    assert len(written) == len(weights)
    for name, value in weights.items():
        assert (written[names.get_name(name, (".weight", ".bias"))] == value.numpy()).all(), name


def test_what_the_runtime_asks_for(exported):
    model, reader = exported
    config = model[0].model.config
    expected = {
        "general.architecture": "bert",
        "bert.block_count": 2,
        "bert.context_length": config.max_position_embeddings,
        "bert.embedding_length": 32,
        "bert.feed_forward_length": config.intermediate_size,
        "bert.attention.head_count": 4,
        "bert.attention.causal": False,
        "bert.pooling_type": gguf.PoolingType.MEAN,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.bos_token_id": model.tokenizer.cls_token_id,
        "tokenizer.ggml.eos_token_id": model.tokenizer.sep_token_id,
        "tokenizer.ggml.padding_token_id": model.tokenizer.pad_token_id,
        "tokenizer.ggml.normalizer.lowercase": True,
    }
    assert {name: field(reader, name) for name in expected} == expected
    assert len(field(reader, "tokenizer.ggml.tokens")) == len(field(reader, "tokenizer.ggml.token_type"))


def test_texts_are_split_as_by_the_model(exported):
    model, reader = exported
    tokens = {token: index for index, token in enumerate(field(reader, "tokenizer.ggml.tokens"))}
    for text in (*TEXTS, "The Rate, of a cat?!"):
        assert split(text, tokens) == model.tokenizer(text)["input_ids"], text


def test_what_it_cannot_express_is_refused_by_name(folder_of, tmp_path):
    network = Transformer(str(folder_of("bert")))
    for modules, words in (
        ([network, Pooling(32), Dense(32, 16)], "Transformer, Pooling, Dense"),
        ([network, Pooling(32, pooling_mode="max")], "pools by max"),
    ):
        folder = tmp_path / modules[-1].__class__.__name__
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
        with pytest.raises(ModelError, match=words):
            gaprune.export_model(folder, to="gguf", out=tmp_path / "out")
    with pytest.raises(ModelError, match="A qwen3 model is not written as GGUF here"):
        gaprune.export_model(folder_of("qwen3"), to="gguf", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no int8 form"):
        gaprune.export_model(folder_of("bert"), to="gguf", int8=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
