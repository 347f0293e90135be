"""What made a model, from what: kept in ``gaprune.json`` of every output."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.errors import ModelError
from gaprune.models.fingerprints import weights_fingerprint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "PROVENANCE_FILE",
    "parent_identity",
    "read_provenance",
    "versions",
]

PROVENANCE_FILE = "gaprune.json"

_PACKAGES = ("gaprune", "torch", "transformers", "sentence-transformers", "tokenizers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of everything that the numbers depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}


def parent_identity(model: SentenceTransformer, name: str, revision: str | None) -> dict[str, Any]:
    """Return what identifies the parent: name, revision asked for and found, fingerprint of its weights."""
    commit = getattr(model.config, "_commit_hash", None)
    return {"name": name, "revision": revision, "commit": commit, "weights_sha256": weights_fingerprint(model)}


def read_provenance(folder: str | Path) -> dict[str, Any] | None:
    """Return the provenance of a model folder; ``None`` where it has none, because GAPrune did not make it.

    Raises:
        ModelError: If the file is there and cannot be read.
    """
    path = Path(folder) / PROVENANCE_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "Delete it, or restore the folder.") from error
    pruned = {"parent", "method", "sparsity"}
    if not (isinstance(content, dict) and (content.keys() >= pruned or "export" in content)):
        raise ModelError(f"{path} is not what GAPrune writes.", "Delete it, or restore the folder.")
    return content
