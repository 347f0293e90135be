"""Distillation: the parent's embeddings of every text, computed once and kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ModelError, OutputError
from gaprune.models.encode import encode
from gaprune.models.fingerprints import modules_fingerprint
from gaprune.models.modes import shortened
from gaprune.models.prompts import TASKS, Prompts, Role, resolve_prompts
from gaprune.util.files import locked
from gaprune.util.progress import stage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 64
"""Texts encoded at a time."""

_CHUNK = 4096
"""Texts whose embeddings are written at a time; a killed run computes those of the last chunk again."""


def default_cache() -> Path:
    """Return the folder of kept embeddings if the options name none."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gaprune" / "teachers"


@dataclass(frozen=True)
class Teacher:
    """Embeddings of texts by the parent, which a recovery distils from.

    Args:
        embeddings: ``(texts, dim)`` in float16, mapped from a file.
        index: Row of each text, by role and text.
    """

    embeddings: NDArray[np.float16]
    index: dict[tuple[Role, str], int]

    def of_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return embeddings ``(batch, columns, dim)`` of ``rows`` ``(batch, columns)``, placed as ``like``."""
        return torch.from_numpy(self.embeddings[rows.cpu().numpy()]).to(like.device, like.dtype)


def embed_with_teacher(
    model: SentenceTransformer, texts: Iterable[tuple[Role, str]], options: RecoveryOptions, *, fingerprint: str
) -> Teacher:
    """Embed ``texts`` with the parent, or read the embeddings that an earlier run has kept.

    The name of the file is a fingerprint of the parent, its prompts and limits, and the texts. Rows are appended in
    order, so that a run that is killed goes on where it stopped.

    Raises:
        ModelError: If an embedding is not finite in float16.
        OutputError: If the embeddings cannot be kept.
    """
    prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)
    keys = list(dict.fromkeys(texts))
    index = {key: row for row, key in enumerate(keys)}
    own, limit = model.max_seq_length, options.max_length
    with shortened(model, None if limit is None or (own is not None and own <= limit) else limit):
        depends_on = [
            fingerprint, modules_fingerprint(model), str(model.dtype), model.max_seq_length, model.truncate_dim,
            prompts.query, prompts.passage, options.bf16,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps([*depends_on, *index], ensure_ascii=False).encode()).hexdigest()
        folder = default_cache() if options.teacher_cache is None else Path(options.teacher_cache)
        path = folder / f"{digest}.f16"
        if not path.is_file():
            with locked(path):
                if not path.is_file():
                    _write(model, keys, prompts, path, bf16=options.bf16 is True)
    return Teacher(np.memmap(path, np.float16, mode="r").reshape(len(keys), -1), index)


def _write(
    model: SentenceTransformer, keys: Sequence[tuple[Role, str]], prompts: Prompts, path: Path, *, bf16: bool
) -> None:
    """Write the embedding of every text, in order; rows that a killed run has written are kept."""
    partial = path.with_suffix(".unfinished")
    size = _encoded(model, keys[:1], prompts, bf16=bf16).nbytes
    try:
        with partial.open("ab") as file, stage("Embedding with the parent", len(keys)) as shown:
            done = file.tell() // size
            file.truncate(done * size)
            for start in range(done, len(keys), _CHUNK):
                file.write(_encoded(model, keys[start : start + _CHUNK], prompts, bf16=bf16).tobytes())
                shown.update(min(start + _CHUNK, len(keys)))
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"The parent's embeddings cannot be written to {path}: {error}",
            f"{len(keys) * size:,} bytes are needed. Make room, or name another folder: --set teacher_cache=DIR.",
        ) from error


def _encoded(
    model: SentenceTransformer, keys: Sequence[tuple[Role, str]], prompts: Prompts, *, bf16: bool
) -> NDArray[np.float16]:
    """Return the embeddings ``(texts, dim)`` of some texts."""
    parts: dict[int, NDArray[np.float32]] = {}
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for role in TASKS:
            rows = [row for row, (of, _) in enumerate(keys) if of == role]
            if rows:
                found = encode(model, [keys[row][1] for row in rows], role, prompts, batch_size=_BATCH)
                parts |= zip(rows, found, strict=True)
    with np.errstate(over="ignore"):
        embeddings = np.stack([parts[row] for row in range(len(keys))]).astype(np.float16)
    if not np.isfinite(embeddings).all():
        raise ModelError("The parent gives embeddings that are not finite.", "Name a sound one with --parent.")
    return embeddings
