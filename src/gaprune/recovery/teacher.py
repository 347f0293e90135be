"""The parent as a teacher: its embeddings of every text, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gaprune.errors import ConfigError, ModelError, OutputError
from gaprune.models.prompts import Prompts, Role
from gaprune.util.files import replacing
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Teacher", "default_cache", "refuse_other_width"]

_CHUNK = 1024
"""Texts encoded between two steps of the progress bar."""

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
                embeddings = torch.cat(list(_embed(model, list(index), prompts)))
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


def _embed(model: SentenceTransformer, keys: list[tuple[Role, str]], prompts: Prompts) -> Iterator[Tensor]:
    """Yield the embeddings of chunks of texts, each in its place; like lengths are embedded together."""
    chunks = [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]
    for chunk in track(chunks, "Embedding with the parent"):
        parts: dict[int, Tensor] = {}
        encoders: dict[Role, Callable[..., Any]] = {"query": model.encode_query, "passage": model.encode_document}
        for role, encode in encoders.items():
            places = [place for place, (of, _) in enumerate(chunk) if of == role]
            if not places:
                continue
            found: Tensor = encode(
                [chunk[place][1] for place in places],
                prompt=prompts.of(role) or "",  # an empty prompt, unlike None, switches off the model's own
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_tensor=True,
            )
            parts |= dict(zip(places, found.float().cpu(), strict=True))
        embeddings = torch.stack([parts[place] for place in range(len(chunk))])
        if not torch.isfinite(embeddings).all():
            raise ModelError("The parent gives embeddings that are not finite.", "Name a sound one with --parent.")
        yield embeddings


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
