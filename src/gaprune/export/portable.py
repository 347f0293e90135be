"""The identity of a parent and what its card says, without paths of the user's machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, model_validator
from pydantic_core import to_jsonable_python

from gaprune.models.demo import DEMO, is_demo
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.names import is_local, model_name
from gaprune.util.progress import say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FindFile = Callable[[str], Path | None]
"""Finds a file of the parent by its name."""

_OWN_TAGS = ("base_model:", "dataset_size:", "loss:", "region:", "license:", "arxiv:")
"""Beginnings of tags that are true of one model alone."""

_FORMATS = frozenset({"generated_from_trainer", "gguf", "onnx", "openvino", "pytorch", "safetensors", "tf", "jax"})

_SOURCES = frozenset({"model", "parent", "domain", "general", "texts"})
"""Options that name a hub id or a path."""

_PLACES = frozenset({"out", "tasks", "vocabulary", "scores", "checkpoint", "checkpoints", "teacher_cache"})
"""Options that name a path."""

_CLIMBS = 2
"""A parent is found again at most this many folders above its child."""


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


def _last_part(path: str) -> str:
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (Path.resolve would follow links)


def portable(settings: Any) -> Any:
    """Return options as plain data that can be published: of every path only the last part, hub ids as they are."""

    def one(key: str, value: Any) -> Any:
        if isinstance(value, str) and (key in _PLACES or (key in _SOURCES and is_local(value))):
            return _last_part(value)
        return portable(value)

    plain = to_jsonable_python(settings)
    return {key: one(key, value) for key, value in plain.items()} if isinstance(plain, dict) else plain


Options = Annotated[dict[str, Any], BeforeValidator(portable)]


class Parent(Record):
    """The dense model.

    Args:
        name: Hub id, or the name of a local folder: :func:`gaprune.models.names.model_name`.
        local: Whether it is a folder or an object in memory rather than a model on the hub.
        path: Path of a local folder relative to the folder of the child, if it lies near it; ``demo`` for the model of
            the demonstration.
        revision: Branch, tag or commit asked for.
        commit: Commit that was loaded.
        dtype: Type that it was loaded in, if another than its own was asked for.
        weights_sha256: Fingerprint of its weights.
        card: What its card says for its children too.
    """

    name: str
    local: bool
    path: str | None = None
    revision: str | None = None
    commit: str | None = None
    dtype: str | None = None
    weights_sha256: str
    card: CardMetadata = CardMetadata()

    @model_validator(mode="before")
    @classmethod
    def _without_path(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" in data and "local" not in data:
            given = data["name"]
            place = {"path": DEMO} if is_demo(given) else {}
            return {**data, "name": model_name(given), "local": is_demo(given) or is_local(given), **place}
        return data

    @classmethod
    def of(
        cls, model: SentenceTransformer, name: str, *, revision: str | None = None, dtype: str | None = None
    ) -> Self:
        """Return the identity of ``model``, which was loaded from ``name``."""
        commit = getattr(model.config, "_commit_hash", None)
        fields = {"revision": revision, "dtype": dtype, "commit": commit, "weights_sha256": weights_fingerprint(model)}
        return cls.model_validate({"name": name, "card": parent_card(model), **fields})

    def seen_from(self, child: Path, folder: str | Path | None) -> Self:
        """Return this identity for the provenance in ``child``; ``folder`` is the local parent."""
        path = None
        if folder is not None and is_demo(folder):
            return self.model_copy(update={"path": DEMO})
        if self.local and folder is not None and Path(folder).is_dir():
            path = Path(os.path.relpath(Path(folder).resolve(), child.resolve()))
        is_near = path is not None and path.parts.count("..") <= _CLIMBS
        return self.model_copy(update={"path": path.as_posix() if path is not None and is_near else None})

    def find(self, child: str | Path | None) -> str | None:
        """Return the hub id or folder of the parent; ``None`` if it is local and not found from ``child``."""
        if not self.local:
            return self.name
        if self.path == DEMO:
            return DEMO
        folder = None if child is None or self.path is None else (Path(child).resolve() / self.path).resolve()
        return str(folder) if folder is not None and folder.is_dir() else None
