"""Files of the folder or hub id that a model was loaded from, and what its card says for its children too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from gaprune.util.progress import say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FindFile = Callable[[str], Path | None]
"""Finds a file of the parent by its name."""

_OWN_TAGS = ("base_model:", "dataset_size:", "loss:", "region:", "license:", "arxiv:")
"""Beginnings of tags that are true of one model alone."""

_FORMATS = frozenset({"generated_from_trainer", "gguf", "onnx", "openvino", "pytorch", "safetensors", "tf", "jax"})


def _many(value: Any) -> tuple[str, ...]:
    return () if value is None else tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


_Words = Annotated[tuple[str, ...], BeforeValidator(_many)]


class CardMetadata(Record):
    """What a model card says that is true of the model's children too."""

    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: _Words = ()
    tags: _Words = ()


def parent_files(model: SentenceTransformer) -> FindFile:
    """Return what finds a file of the folder or hub id that ``model`` was loaded from, without network."""
    from sentence_transformers.util import load_file_path

    source = str(getattr(model.tokenizer, "name_or_path", "") or "")
    commit = getattr(getattr(model[0], "config", None), "_commit_hash", None)

    def find(name: str) -> Path | None:
        path = load_file_path(source, name, revision=commit, local_files_only=True) if source else None
        return None if path is None else Path(path)

    return find


def parent_card(model: SentenceTransformer) -> CardMetadata:
    """Return what the card of ``model`` says for its children too; nothing if it has no card."""
    import yaml
    from huggingface_hub import metadata_load

    path = parent_files(model)("README.md")
    if path is None:
        return CardMetadata()
    try:
        found = metadata_load(path) or {}
        kept = {name: found[name] for name in CardMetadata.model_fields if found.get(name)}
        card = CardMetadata.model_validate(kept)
    except (yaml.YAMLError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        say(f"Note: the card of the parent cannot be read, so its licence and tags are not carried over: {reason}")
        return CardMetadata()
    tags = tuple(tag for tag in card.tags if tag not in _FORMATS and not tag.startswith(_OWN_TAGS))
    return card.model_copy(update={"tags": tags})
