"""Records that can be published: of the paths on the user's machine they have the last part only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, model_validator
from pydantic_core import to_jsonable_python

from gaprune.export.parent_files import CardMetadata, parent_card
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SOURCES = frozenset({"model", "parent", "domain", "general"})
"""Options that name a hub id or a path."""
_PLACES = frozenset({"out", "tasks", "vocabulary", "scores", "checkpoint", "checkpoints", "teacher_cache"})
"""Options that name a path."""
_CLIMBS = 2
"""A parent is found again at most this many folders above its child."""


def _is_local(name: str) -> bool:
    """Return whether ``name`` is a path or a description rather than a hub id."""
    return name.startswith((".", "~")) or _HUB_ID.fullmatch(name) is None or Path(name).exists()


def _last_part(path: str) -> str:
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (Path.resolve would follow links)


def portable(settings: Any) -> Any:
    """Return options as plain data that can be published: of every path only the last part, hub ids as they are."""

    def one(key: str, value: Any) -> Any:
        if isinstance(value, str) and (key in _PLACES or (key in _SOURCES and _is_local(value))):
            return _last_part(value)
        return portable(value)

    plain = to_jsonable_python(settings)
    return {key: one(key, value) for key, value in plain.items()} if isinstance(plain, dict) else plain


Options = Annotated[dict[str, Any], BeforeValidator(portable)]


class Parent(Record):
    """The dense model.

    Args:
        name: Hub id, or the last part of the path of a local folder.
        local: Whether it is a folder or an object in memory rather than a model on the hub.
        path: Path of a local folder relative to the folder of the child, if it lies near it.
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
            local = _is_local(data["name"])
            return {**data, "name": _last_part(data["name"]) if local else data["name"], "local": local}
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
        if self.local and folder is not None and Path(folder).is_dir():
            path = Path(os.path.relpath(Path(folder).resolve(), child.resolve()))
        is_near = path is not None and path.parts.count("..") <= _CLIMBS
        return self.model_copy(update={"path": path.as_posix() if path is not None and is_near else None})

    def find(self, child: str | Path | None) -> str | None:
        """Return the hub id or folder of the parent; ``None`` if it is local and not found from ``child``."""
        if not self.local:
            return self.name
        folder = None if child is None or self.path is None else (Path(child).resolve() / self.path).resolve()
        return str(folder) if folder is not None and folder.is_dir() else None
