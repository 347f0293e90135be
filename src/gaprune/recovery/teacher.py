"""The parent as a teacher: its embeddings of every text, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gaprune.errors import ConfigError, ModelError, OutputError
from gaprune.models.encode import encode
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.util.files import replacing

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Teacher", "default_cache", "refuse_other_width"]

_BATCH = 64
"""Texts encoded at a time."""


def default_cache() -> Path:
    """Return the folder where embeddings are kept where none is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gaprune" / "teachers"


@dataclass(frozen=True)
class Teacher:
    """Embeddings of texts by a model that is learned from.

    Args:
        embeddings: ``(texts, dim)`` fp32 on the CPU.
        index: Row of each text, by role and text.
    """

    embeddings: Tensor
    index: dict[tuple[Role, str], int]

    @classmethod
    def of(
        cls,
        model: SentenceTransformer,
        texts: Iterable[tuple[Role, str]],
        *,
        prompts: Prompts,
        fingerprint: str,
        cache: Path,
        first: AbstractContextManager[object],
    ) -> Self:
        """Embed ``texts``, or take the embeddings that were kept.

        Args:
            model: The teacher.
            texts: Role and text; repeated ones are embedded once.
            prompts: Put before queries and passages.
            fingerprint: Of the teacher's weights; its modules (pooling, say) count too.
            cache: Folder of kept embeddings.
            first: Entered around it; in a run of several processes it lets the first go ahead and the others wait.

        Raises:
            ModelError: If an embedding is not finite.
            OutputError: If the embeddings cannot be kept.
        """
        index = {key: row for row, key in enumerate(dict.fromkeys(texts))}
        depends_on = [
            fingerprint,
            repr(model),
            model.max_seq_length,
            model.truncate_dim,
            prompts.query,
            prompts.passage,
        ]
        digest = hashlib.sha256(json.dumps([*depends_on, *index], ensure_ascii=False).encode()).hexdigest()
        path = cache / f"{digest}.safetensors"
        with first:
            embeddings = _kept(path)
            if embeddings is None:
                embeddings = _embed(model, list(index), prompts)
                _keep(path, embeddings)
        return cls(embeddings, index)

    def of_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return embeddings ``(batch, columns, dim)`` of ``rows`` ``(batch, columns)``, placed as ``like``."""
        return self.embeddings[rows.cpu()].to(like.device, like.dtype)


def _kept(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)["embeddings"]
    except (OSError, SafetensorError, KeyError) as error:
        raise OutputError(f"The kept embeddings {path} cannot be read: {error}", "Delete the file.") from error


def _keep(path: Path, embeddings: Tensor) -> None:
    try:
        with replacing(path) as partial:
            save_file({"embeddings": embeddings}, partial)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The teacher's embeddings cannot be kept in {path.parent}: {error}",
            "Name a folder you can write to: --teacher-cache DIR.",
        ) from error


def _embed(model: SentenceTransformer, keys: list[tuple[Role, str]], prompts: Prompts) -> Tensor:
    """Return the embedding of every text, on the CPU."""
    parts: dict[int, Tensor] = {}
    for role in TASKS:
        rows = [row for row, (of, _) in enumerate(keys) if of == role]
        if rows:
            texts = [keys[row][1] for row in rows]
            label = f"Embedding with the parent ({role})"
            found = encode(model, texts, role, prompts, batch_size=_BATCH, as_tensor=True, label=label)
            parts |= zip(rows, found.cpu(), strict=True)
    embeddings = torch.stack([parts[row] for row in range(len(keys))])
    if not torch.isfinite(embeddings).all():
        raise ModelError("The parent gives embeddings that are not finite.", "Name a sound one with --parent.")
    return embeddings


def refuse_other_width(model: SentenceTransformer, teacher: SentenceTransformer, *, weight: float) -> None:
    """Refuse to compare embeddings of different width one by one, where that has a weight.

    Raises:
        ConfigError: If they differ.
    """
    mine, its = model.get_embedding_dimension(), teacher.get_embedding_dimension()
    if mine != its and weight:
        raise ConfigError(
            f"embedding_weight: the model's embeddings have {mine} dimensions, the parent's {its}.",
            "Distil similarities alone: --embedding-weight 0.",
        )
