"""GGUF files: every weight, what llama.cpp asks for, and tokens by its own rules, for whole and cut vocabularies."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
import regex
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

import gaprune
from families import FAMILIES, TEXTS, decoder
from gaprune.errors import ConfigError, ModelError
from gaprune.export.formats.base import Request
from gaprune.export.formats.gguf import Gguf
from gaprune.models.load import load_model
from gguf_families import GGUF_FAMILIES

gguf = pytest.importorskip("gguf")

ODD = ("The Rate, of a cat?!", "don't\tdo  12%", "Zürich 3", "a\n\nb", "loans to 2019")
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module", params=["bert whole", "bert cut", "qwen3 cut", "gemma cut"])
def exported(request, tmp_path_factory):
    """A family, a model of it with fewer neurons and perhaps heads, its vocabulary whole or cut, and its file."""
    family, words = request.param.split()
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "texts.txt").write_text("\n".join(TEXTS[:3]), encoding="utf-8")
    options = {"criterion": "magnitude", "width": 0.5, "round_to": 8, "device": "cpu"}
    options |= {"vocabulary": str(folder / "texts.txt")} if words == "cut" else {}
    options |= {"heads": 0.5} if family != "bert" else {}
    gaprune.prune(GGUF_FAMILIES[family](folder), out=folder / "child", **options)
    out = gaprune.export_model(folder / "child", to="gguf", out=folder / "out").path
    return family, load_model(folder / "child", device="cpu"), gguf.GGUFReader(out / "model.gguf")


def test_what_cannot_run_a_file_says_so_at_once(tmp_path, capsys):
    """Nothing is compared, and no command tries to open it with transformers; inspect reads what was recorded."""
    folder = GGUF_FAMILIES["bert"](tmp_path)
    out = gaprune.export_model(folder, to="gguf", out=tmp_path / "out").path
    assert "Comparing" not in capsys.readouterr().err
    for run in (
        lambda: gaprune.evaluate(out, tasks=tmp_path / "none"),
        lambda: gaprune.evaluate(folder, tasks=tmp_path / "none", parent=out),
        lambda: gaprune.bench(folder, out),
        lambda: load_model(out),
        lambda: gaprune.ExportedModel(out),
    ):
        with pytest.raises(ModelError, match=r"out holds a GGUF file .*llama\.cpp runs"):
            run()
    assert gaprune.inspect(out)[0].parameters == gaprune.inspect(folder)[0].parameters


def field(reader, name):
    return reader.get_field(f"tokenizer.ggml.{name}").contents()


def word_pieces(text, reader):
    """Lower case, words and marks, and of each the longest pieces from the left."""
    tokens, ids = {token: index for index, token in enumerate(field(reader, "tokens"))}, []
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
    return ids


def byte_pairs(text, reader):
    """Words by the rule of Qwen 2; of two neighbours those are joined first whose merge was listed first."""
    tokens = {token: index for index, token in enumerate(field(reader, "tokens"))}
    assert field(reader, "pre") == "qwen2"
    ranks, letters = {merge: rank for rank, merge in enumerate(field(reader, "merges"))}, bytes_to_unicode()
    ids = []
    for word in regex.findall(_QWEN2, text):
        parts = [letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = [ranks.get(" ".join(pair), len(ranks)) for pair in itertools.pairwise(parts)]
            if min(pairs) == len(ranks):
                break
            at = pairs.index(min(pairs))
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        ids += [tokens[part] for part in parts if part in tokens]
    return ids


def sentence_pieces(text, reader):
    """Of two neighbours those are joined first that form the token of the highest score; bytes for what is left."""
    tokens = {token: index for index, token in enumerate(field(reader, "tokens"))}
    scores, parts = field(reader, "scores"), list(text.replace(" ", "▁"))
    while True:
        joined = ["".join(pair) for pair in itertools.pairwise(parts)]
        best = max((each for each in joined if each in tokens), key=lambda each: scores[tokens[each]], default=None)
        if best is None:
            break
        at = joined.index(best)
        parts[at : at + 2] = [best]
    spelled = [[part] if part in tokens else [f"<0x{byte:02X}>" for byte in part.encode()] for part in parts]
    return [tokens[each] for each in itertools.chain.from_iterable(spelled)]


SPLIT = {"bert": word_pieces, "gpt2": byte_pairs, "llama": sentence_pieces}


def test_every_weight(exported):
    family, model, reader = exported
    architecture = gguf.MODEL_ARCH.GEMMA_EMBEDDING if family == "gemma" else gguf.MODEL_ARCH[family.upper()]
    names = gguf.get_tensor_name_map(architecture, 2)
    written = {tensor.name: tensor.data for tensor in reader.tensors}
    weights = {name: value for name, value in model[0].model.state_dict().items() if "pooler" not in name}
    heads = {
        f"dense_{place}.weight": module.linear.weight
        for place, module in enumerate(model)
        if hasattr(module, "linear")
    }
    assert len(written) == len(weights) + len(heads)
    for name, value in weights.items():
        known = names.get_name(name if family == "bert" else f"model.{name}", (".weight", ".bias"))
        shift = 1 if family == "gemma" and "norm" in name else 0
        assert (written[known] == value.numpy() + shift).all(), name
    for name, value in heads.items():
        assert (written[name] == value.detach().numpy()).all(), name


def test_what_the_runtime_asks_for(exported):
    family, model, reader = exported
    config, tokenizer = model[0].model.config, model.tokenizer
    name = {"gemma": "gemma-embedding"}.get(family, family)
    expected = {
        "general.architecture": name,
        f"{name}.block_count": 2,
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": 32,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.pooling_type": gguf.PoolingType.LAST if family == "qwen3" else gguf.PoolingType.MEAN,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
    }
    own = {
        "bert": {
            "bert.attention.causal": False,
            "tokenizer.ggml.bos_token_id": tokenizer.cls_token_id,
            "tokenizer.ggml.eos_token_id": tokenizer.sep_token_id,
            "tokenizer.ggml.normalizer.lowercase": True,
        },
        "qwen3": {
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.ggml.add_eos_token": True,
            "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        },
        "gemma": {
            "gemma-embedding.attention.sliding_window": 8,
            "gemma-embedding.attention.sliding_window_pattern": [True, False],
            "gemma-embedding.rope.freq_base_swa": 10_000.0,
            "gemma-embedding.rope.freq_base": 1_000_000.0,
            "gemma-embedding.dense_2_feat_out": 48,
            "gemma-embedding.dense_3_feat_in": 48,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.add_eos_token": True,
            "tokenizer.ggml.add_space_prefix": False,
        },
    }
    if family != "bert":
        expected[f"{name}.attention.head_count_kv"] = config.num_key_value_heads
        expected[f"{name}.attention.key_length"] = expected[f"{name}.attention.value_length"] = 8
    expected |= own[family]
    assert {key: reader.get_field(key).contents() for key in expected} == expected
    assert len(field(reader, "tokens")) == len(field(reader, "token_type")) == config.vocab_size


def test_texts_are_split_as_by_the_model(exported):
    _, model, reader = exported
    for text in (*TEXTS, *ODD):
        found = SPLIT[field(reader, "model")](text, reader)
        assert found == model.tokenizer(text, add_special_tokens=False)["input_ids"], text
    whole = model.tokenizer(text)["input_ids"]
    assert whole[0] == (field(reader, "bos_token_id") if field(reader, "add_bos_token") else found[0])
    assert whole[-1] == field(reader, "eos_token_id")
    assert field(reader, "add_eos_token")


def test_gemma_with_causal_attention(tmp_path):
    """It has another name in llama.cpp, and a window of another meaning."""
    options = {"sliding_window": 8, "query_pre_attn_scalar": 8}
    family = replace(FAMILIES["gemma"], network=decoder("Gemma3Text", **options))
    out = gaprune.export_model(family(tmp_path), to="gguf", out=tmp_path / "out").path
    reader = gguf.GGUFReader(out / "model.gguf")
    assert reader.get_field("general.architecture").contents() == "gemma3"
    assert reader.get_field("gemma3.attention.sliding_window").contents() == 8


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
    with pytest.raises(ModelError, match="A mistral model is not written as GGUF here"):
        gaprune.export_model(folder_of("mistral"), to="gguf", out=tmp_path / "out")
    with pytest.raises(ModelError, match=r"no layer but those of sliding_attention; llama\.cpp needs one of each"):
        gaprune.export_model(folder_of("gemma"), to="gguf", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="no int8 form"):
        gaprune.export_model(folder_of("bert"), to="gguf", int8=True, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, "activation gelu; llama.cpp computes silu"),
        ({"attention_bias": True}, "biases in attention"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "sliding attention, which"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}},
            "scales its rotary positions",
        ),
    ],
    ids=str,
)
def test_what_llama_cpp_computes_otherwise_is_refused(folder_of, change, words):
    model = load_model(folder_of("qwen3"), device="cpu")
    for name, value in change.items():
        setattr(model[0].model.config, name, value)
    with pytest.raises(ModelError, match=words):
        Gguf(Request(folder_of("qwen3"))).check_model(model)


def test_a_tokenizer_without_a_name_is_refused(folder_of):
    model = load_model(folder_of("qwen3"), device="cpu")
    model.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(ModelError, match=r"splits texts by rules that llama\.cpp has no name for"):
        Gguf(Request(folder_of("qwen3"))).check_model(model)
