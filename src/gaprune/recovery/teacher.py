"""Distillation: the parent's embeddings of every text, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ModelError
from gaprune.models.encode import encode
from gaprune.models.load import shortened
from gaprune.models.prompts import TASKS, Prompts, Role, resolve_prompts
from gaprune.util.tensor_store import StoredTensors, write_tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Teacher", "default_cache", "embed_with_teacher"]

_BATCH = 64
"""Texts encoded at a time."""


def default_cache() -> Path:
    """Return the folder of kept embeddings if the options name none."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gaprune" / "teachers"


@dataclass(frozen=True)
class Teacher:
    """Embeddings of texts by the parent, which a recovery distils from.

    Args:
        embeddings: ``(texts, dim)`` fp32 on the CPU.
        index: Row of each text, by role and text.
    """

    embeddings: Tensor
    index: dict[tuple[Role, str], int]

    def of_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return embeddings ``(batch, columns, dim)`` of ``rows`` ``(batch, columns)``, placed as ``like``."""
        return self.embeddings[rows.cpu()].to(like.device, like.dtype)


def embed_with_teacher(
    model: SentenceTransformer, texts: Iterable[tuple[Role, str]], options: RecoveryOptions, *, fingerprint: str
) -> Teacher:
    """Embed ``texts`` with the parent, or read the embeddings that an earlier run has kept.

    Raises:
        ModelError: If an embedding is not finite.
        OutputError: If the embeddings cannot be kept.
        ConfigError: If the kept embeddings cannot be read.
    """
    prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)
    index = {key: row for row, key in enumerate(dict.fromkeys(texts))}
    own, limit = model.max_seq_length, options.max_length
    with shortened(model, None if limit is None or (own is not None and own <= limit) else limit):
        depends_on = [
            fingerprint, repr(model), model.max_seq_length, model.truncate_dim, prompts.query, prompts.passage,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps([*depends_on, *index], ensure_ascii=False).encode()).hexdigest()
        folder = default_cache() if options.teacher_cache is None else Path(options.teacher_cache)
        path = folder / f"{digest}.safetensors"
        embeddings = None if path.is_file() else _embed(model, list(index), prompts)
    if embeddings is not None:
        write_tensors(
            path, {"embeddings": embeddings}, remedy="Name a folder you can write to: --set teacher_cache=DIR."
        )
    return Teacher(StoredTensors(path, remedy="Delete the file.")["embeddings"], index)


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
