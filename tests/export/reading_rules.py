"""What readers of a model's folder read, and demand: their rules in our words, one function for each.

A function returns what its reader takes from the folder, and fails where the reader would end in an error or would
silently compute something else. The rules are those of sentence-transformers 3 to 5, transformers 4.40 to 4.57,
text-embeddings-inference 1.8.3 to 1.9.3, vLLM 0.11 to 0.23, fastembed 0.7, llama.cpp's converter
of 2025, and transformers.js 3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from tokenizers import Tokenizer

__all__ = [
    "READERS", "Facts", "fastembed", "layers_of_transformers_4", "onnx_in_text_embeddings_inference",
    "transformers_js",
]  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a reader knows of a model; ``None`` for what it does not ask for or cannot do.

    Args:
        pooling: As sentence-transformers 6 calls it.
        normalized: Whether embeddings have length one.
        dense: Number of linear layers after pooling.
        max_length: Tokens that texts are cut at.
    """

    pooling: str | None = None
    normalized: bool | None = None
    dense: int | None = None
    max_length: int | None = None


_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_MODULES = "sentence_transformers.models."
_CONSTRUCTORS = {
    "Transformer": {"max_seq_length", "do_lower_case"},
    "Pooling": {"word_embedding_dimension", "include_prompt", *_POOLING},
    "Dense": {"in_features", "out_features", "bias", "activation_function"},
    "Normalize": set(),
}
"""What the classes of sentence-transformers 3.4 take; any other name is a TypeError."""

_CLASSES_OF_5 = {"TokenizersBackend", "PythonBackend", "SentencePieceBackend", "MistralCommonBackend"}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The modules by the names that all readers know, with the folder of each."""
    entries = _json(folder / "modules.json")
    assert all(entry["type"].startswith(_MODULES) for entry in entries), entries
    return [(entry["type"].removeprefix(_MODULES), folder / entry["path"]) for entry in entries]


def _the_pooling(folder: Path) -> dict[str, Any]:
    (path,) = [path for name, path in _modules(folder) if name == "Pooling"]
    return _json(path / "config.json")


def _count(folder: Path, name: str) -> int:
    return sum(found == name for found, _ in _modules(folder))


def _tokenizer_of_transformers_4(folder: Path) -> None:
    settings = _json(folder / "tokenizer_config.json")
    assert settings["tokenizer_class"] not in _CLASSES_OF_5, settings
    assert not isinstance(settings.get("extra_special_tokens"), list), "it asks for the keys of a dict"
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    for role, token in _json(folder / "special_tokens_map.json").items():
        for each in token if isinstance(token, list) else [token]:
            assert (each["content"] if isinstance(each, dict) else each) in vocabulary, role


def sentence_transformers(folder: Path) -> Facts:
    """Releases 3 to 5 hand every setting to the constructor of a class in ``sentence_transformers.models``."""
    _tokenizer_of_transformers_4(folder)
    found: dict[str, dict[str, Any]] = {}
    for name, path in _modules(folder):
        file = path / ("sentence_bert_config.json" if name == "Transformer" else "config.json")
        found[name] = _json(file) if file.is_file() else {}
        assert found[name].keys() <= _CONSTRUCTORS[name], (name, found[name])
    modes = [mode for key, mode in _POOLING.items() if found["Pooling"].get(key)]
    (mode,) = modes
    return Facts(mode, "Normalize" in found, _count(folder, "Dense"), found["Transformer"]["max_seq_length"])


def text_embeddings_inference(folder: Path) -> Facts:
    """Fields without a default must be there, and of their type; ``null`` is no number."""
    config = _json(folder / "config.json")
    assert isinstance(config["architectures"], list)
    assert isinstance(config["model_type"], str)
    assert isinstance(config["max_position_embeddings"], int)
    assert isinstance(config.get("pad_token_id", 0), int)
    if config["model_type"] in {"qwen3", "mistral", "gemma3_text"}:
        assert isinstance(config["rope_theta"], float)
    if config["model_type"] == "gemma3_text":
        assert isinstance(config["rope_local_base_freq"], float)
    if config["model_type"] == "modernbert":
        assert isinstance(config["global_rope_theta"], float)
        assert isinstance(config["local_rope_theta"], float)
    Tokenizer.from_file(str(folder / "tokenizer.json"))
    pooling = _json(folder / "1_Pooling" / "config.json")  # in this place, whatever modules.json says
    for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"):
        assert isinstance(pooling[f"pooling_mode_{name}"], bool)
    known = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken")
    mode = next((_POOLING[name] for name in known if pooling.get(name)), None)
    for name, path in _modules(folder):
        if name == "Dense":
            dense = _json(path / "config.json")
            assert {"in_features", "out_features", "bias", "activation_function"} <= dense.keys()
            assert (path / "model.safetensors").is_file()
    length = _json(folder / "sentence_bert_config.json")["max_seq_length"]
    assert isinstance(length, int)
    return Facts(mode, dense=_count(folder, "Dense"), max_length=length)


def vllm(folder: Path) -> Facts:
    """A type that it does not know word for word is passed over in silence: then it pools as it likes."""
    pooling = _the_pooling(folder)
    true = {_POOLING[name] for name, value in pooling.items() if value is True and name in _POOLING}
    settings = _json(folder / "sentence_bert_config.json")
    length = settings["max_seq_length"] if {"max_seq_length", "do_lower_case"} <= settings.keys() else None
    return Facts(
        pooling=next(iter(true & {"cls", "mean", "lasttoken"}), None),
        normalized=_count(folder, "Normalize") == 1,
        max_length=length,
    )


def llama_cpp(folder: Path) -> Facts:
    """The converter knows three modes of pooling; the vocabulary is that of ``AutoTokenizer``."""
    _tokenizer_of_transformers_4(folder)
    pooling = _the_pooling(folder)
    known = ("pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken")
    return Facts(next((_POOLING[name] for name in known if pooling[name]), None))


READERS: dict[str, Callable[[Path], Facts]] = {
    each.__name__: each for each in (sentence_transformers, text_embeddings_inference, vllm, llama_cpp)
}
"""Readers of a folder with PyTorch weights."""


def layers_of_transformers_4(folder: Path) -> list[tuple[str, float]]:
    """The type of attention of each layer and its rotary base, as releases before 4.53 compute them.

    Raises:
        TypeError: If there is no period to compute them from; these releases stop there too.
    """
    config = _json(folder / "config.json")
    assert config["torch_dtype"] == config["dtype"], "before 4.56"
    layers = range(config["num_hidden_layers"])
    if config["model_type"] == "gemma3_text":
        period = config["sliding_window_pattern"]
        full, bases = [(layer + 1) % period == 0 for layer in layers], ("rope_theta", "rope_local_base_freq")
    elif config["model_type"] == "modernbert":
        period = config["global_attn_every_n_layers"]
        full, bases = [layer % period == 0 for layer in layers], ("global_rope_theta", "local_rope_theta")
    else:
        full, bases = [True for _ in layers], ("rope_theta", "rope_theta")
    return [("full_attention", config[bases[0]]) if each else ("sliding_attention", config[bases[1]]) for each in full]


def fastembed(folder: Path) -> Facts:
    """The user names the graph; the tokenizer needs four files, and a limit and a padding token in one of them."""
    settings, config = _json(folder / "tokenizer_config.json"), _json(folder / "config.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    lengths = [settings[name] for name in ("model_max_length", "max_length") if settings.get(name)]
    assert isinstance(settings["pad_token"], str)
    assert tokenizer.token_to_id(settings["pad_token"]) == config.get("pad_token_id", 0)
    for token in _json(folder / "special_tokens_map.json").values():
        assert isinstance(token, str | dict)
    _graph(folder, "model.onnx", "model_quantized.onnx")
    return Facts(max_length=min(lengths))


def transformers_js(folder: Path) -> Facts:
    """Graphs lie in ``onnx``, by the name of their type of number."""
    assert isinstance(_json(folder / "config.json")["model_type"], str)
    assert isinstance(_json(folder / "tokenizer_config.json")["tokenizer_class"], str)
    assert {"model", "added_tokens", "normalizer", "pre_tokenizer"} <= _json(folder / "tokenizer.json").keys()
    graph = _graph(folder, "model.onnx", "model_quantized.onnx")
    assert not graph.with_name(f"{graph.name}.data").exists(), "it asks for model.onnx_data, if config.json says so"
    return Facts()


def onnx_in_text_embeddings_inference(folder: Path) -> Facts:
    """The image for processors runs one file, of which it takes the sentence embedding, after the checks above."""
    facts = text_embeddings_inference(folder)
    graph = onnx.load(_graph(folder, "model.onnx"), load_external_data=False).graph
    assert {each.name for each in graph.input} <= {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
    assert "attention_mask" in {each.name for each in graph.input}, "it is always given"
    assert "sentence_embedding" in {each.name for each in graph.output}
    assert _json(folder / "tokenizer_config.json").get("padding_side", "right") in {"left", "right"}
    assert facts.pooling is not None, "it does not start"
    return facts


def _graph(folder: Path, *names: str) -> Path:
    (graph,) = [folder / "onnx" / name for name in names if (folder / "onnx" / name).is_file()]
    return graph
