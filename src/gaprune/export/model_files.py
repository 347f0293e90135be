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

from gaprune.export.config_file import rewrite_config
from gaprune.export.portable import parent_files
from gaprune.export.tokenizer_files import rewrite_tokenizer
from gaprune.util.files import write_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

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
    write_json(path, entries)
    if (folder / "config.json").is_file():
        rewrite_config(folder)
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
        write_json(path, settings)
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
