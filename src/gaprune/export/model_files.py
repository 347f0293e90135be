"""The files of a model in the form that its readers know, old and new.

sentence-transformers 6 has other names of modules and another form of their settings than releases before it, from
which the servers took them (TEI, vLLM, fastembed, llama.cpp). It reads the earlier form as well, so that is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.export.portable import parent_files
from gaprune.export.tokenizer_files import rewrite_tokenizer
from gaprune.util.files import write_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_THETAS = {"modernbert": ("global_rope_theta", "local_rope_theta")}
"""Earlier names of the two bases of rotary positions, of full and of sliding attention, by model type."""

_OTHER_THETAS = ("rope_theta", "rope_local_base_freq")

_PATTERNS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "gemma3_text": (("sliding_window_pattern", "_sliding_window_pattern"), -1),
    "cohere2": (("sliding_window_pattern",), -1),
    "modernbert": (("global_attn_every_n_layers",), 0),
}
"""Earlier names of the period of full attention by model type, and which layer of a period has it."""


_Json = dict[str, Any]

_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Earlier names of the modes of pooling, in the order in which readers of these names concatenate their results."""

_TEXT_ONLY = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
"""What sentence-transformers assumes of a transformer whose settings are in the earlier form."""

_EMBEDDING = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
"""What it assumes of a module after pooling."""

_UNLIMITED = 1 << 31
"""transformers writes a limit beyond this if there is none."""


def write_model(model: SentenceTransformer, folder: Path) -> None:
    """Write ``model`` to ``folder``, as sentence-transformers does, with settings that all readers understand."""
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    parents = parent_files(model)
    path = folder / "modules.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry, module in zip(entries, model, strict=True):
        package, _, name = entry["type"].rpartition(".")
        if package.startswith("sentence_transformers."):
            entry["type"] = f"sentence_transformers.models.{name}"
            _rewrite_settings(module, name, folder / entry["path"], model)
    write_json(path, entries, ascii_only=False)
    if (folder / "config.json").is_file():
        _rewrite_config(folder)
    if hasattr(model.tokenizer, "backend_tokenizer"):
        rewrite_tokenizer(model.tokenizer, folder, max_length=longest_text(model), parents=parents)
    path, theirs = folder / "config_sentence_transformers.json", parents("config_sentence_transformers.json")
    if theirs is not None and _prompts(path) == _prompts(theirs):
        shutil.copyfile(theirs, path)


def longest_text(model: SentenceTransformer) -> int | None:
    """Return the tokens of the longest text that ``model`` reads; ``None`` if there is no limit."""
    positions = getattr(getattr(model[0], "config", None), "max_position_embeddings", None)
    known = (model.max_seq_length, positions)
    return next((each for each in known if isinstance(each, int) and 0 < each < _UNLIMITED), None)


def _rewrite_settings(module: Any, name: str, folder: Path, model: SentenceTransformer) -> None:
    """Rewrite the settings of one module in the earlier form, or leave them if that cannot express them."""
    rewrite = _REWRITES.get(name)
    path = folder / module.config_file_name
    if rewrite is None or not path.is_file():
        return
    settings = rewrite(json.loads(path.read_text(encoding="utf-8")), module, model)
    if settings:
        write_json(path, settings, ascii_only=False)
    else:
        shutil.rmtree(folder)


def _transformer(settings: _Json, module: Any, model: SentenceTransformer) -> _Json:
    earlier = {"max_seq_length": longest_text(model), "do_lower_case": bool(module.do_lower_case)}
    is_plain = all(settings.get(key) == value for key, value in _TEXT_ONLY.items())
    return earlier | {key: value for key, value in settings.items() if not (is_plain and key in _TEXT_ONLY)}


def _pooling(settings: _Json, module: Any, _: SentenceTransformer) -> _Json:
    modes = [module.pooling_mode] if isinstance(module.pooling_mode, str) else list(module.pooling_mode)
    if modes != [mode for mode in _POOLING.values() if mode in modes]:
        return settings
    chosen = {name: mode in modes for name, mode in _POOLING.items()}
    return {"word_embedding_dimension": module.embedding_dimension, **chosen, "include_prompt": module.include_prompt}


def _after_pooling(settings: _Json, *_: Any) -> _Json:
    is_plain = all(settings.get(key) == value for key, value in _EMBEDDING.items())
    return {key: value for key, value in settings.items() if not (is_plain and key in _EMBEDDING)}


_REWRITES: Mapping[str, Callable[[_Json, Any, SentenceTransformer], _Json]] = {
    "Transformer": _transformer,
    "Pooling": _pooling,
    "Dense": _after_pooling,
    "Normalize": _after_pooling,
}


def _prompts(path: Path) -> _Json:
    settings = json.loads(path.read_text(encoding="utf-8"))
    prompts = {name: prompt for name, prompt in (settings.get("prompts") or {}).items() if prompt}
    similarity = settings.get("similarity_fn_name") or "cosine"
    return {"prompts": prompts, "default": settings.get("default_prompt_name"), "similarity": similarity}


def _rewrite_config(folder: Path) -> None:
    """Add to ``config.json`` in ``folder`` the names that transformers 4 and servers know; the model is the same.

    transformers 5 writes ``dtype`` for ``torch_dtype``, ``rope_parameters`` for ``rope_theta`` and its companions, and
    a list of layer types for the number that they follow. It reads the earlier names too, so both are written.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            if part.get("dtype"):
                part["torch_dtype"] = part["dtype"]
            if part.get("pad_token_id", 0) is None:
                del part["pad_token_id"]  # TEI expects a number or nothing
            part.update(_rope(part) | _layer_pattern(part))
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _rope(config: _Json) -> _Json:
    """Return the rotary positions under their earlier names."""
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        found = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
        return found | _scaling(rope)
    full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
    if not (full and sliding):
        return {}
    names = _THETAS.get(config.get("model_type", ""), _OTHER_THETAS)
    bases = {name: part["rope_theta"] for name, part in zip(names, (full, sliding), strict=True)}
    return bases | (_scaling(full) if names == _OTHER_THETAS else {})


def _scaling(rope: _Json) -> _Json:
    if rope.get("rope_type", "default") == "default":
        return {}
    known = {"rope_theta", "partial_rotary_factor"}
    return {"rope_scaling": {name: value for name, value in rope.items() if name not in known}}


def _layer_pattern(config: _Json) -> _Json:
    """Return the period of full attention.

    It is ``None`` if the layers that were kept follow none: a reader that computes the layer types from the period
    stops with an error then, where its default would give another model without a word.
    """
    names, place = _PATTERNS.get(config.get("model_type", ""), ((), 0))
    types = config.get("layer_types")
    if not (names and types):
        return {}
    known = (config.get(name) for name in names)
    periods = [each for each in known if isinstance(each, int)] + list(range(1, len(types) + 2))
    full = [each == "full_attention" for each in types]
    fits = (each for each in periods if [layer % each == place % each for layer in range(len(types))] == full)
    return dict.fromkeys(names, next(fits, None))
