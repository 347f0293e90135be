"""Embedding texts with a sentence-transformers model: the only place that calls its ``encode``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from gaprune.config.measurement import Precision
from gaprune.models.modes import computing, evaluating
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.util.progress import track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_CHUNK = 1024
"""Number of texts between two steps of the progress bar."""

_BATCH_SIZE = 32


@overload
def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    *,
    batch_size: int = ...,
    normalize: bool = ...,
    as_tensor: Literal[False] = ...,
    label: str | None = ...,
    precision: Precision = ...,
) -> NDArray[np.float32]: ...
@overload
def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    *,
    batch_size: int = ...,
    normalize: bool = ...,
    as_tensor: Literal[True],
    label: str | None = ...,
    precision: Precision = ...,
) -> Tensor: ...
def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    *,
    batch_size: int = _BATCH_SIZE,
    normalize: bool = False,
    as_tensor: bool = False,
    label: str | None = None,
    precision: Precision = "float32",
) -> NDArray[np.float32] | Tensor:
    """Return the embeddings of texts, ``(texts, dim)`` in float32; the model keeps its training or evaluation mode.

    Args:
        model: The model.
        texts: At least one text.
        role: Whether the texts are queries or passages; ``None`` for texts that are neither.
        prompts: The prompts of both roles, or one prompt for these texts; ``None`` for the model's default prompt.
        batch_size: Number of texts encoded at a time.
        normalize: Scale every embedding to length one.
        as_tensor: Return a tensor on the model's device instead of an array.
        label: Title of a progress bar; there is none by default.
        precision: Of the model's matrix products (:mod:`gaprune.models.precision`).
    """
    import torch

    # An empty prompt, unlike None, switches off the model's own prompt.
    prompt = (prompts.passage if role == "passage" else prompts.query) if isinstance(prompts, Prompts) else prompts
    options: dict[str, Any] = {"prompt": prompt, "batch_size": batch_size, "normalize_embeddings": normalize}
    options |= {"convert_to_tensor": as_tensor, "show_progress_bar": False}
    if role is not None:
        options["task"] = TASKS[role]
    size = len(texts) if label is None else _CHUNK
    starts = range(0, len(texts), size)
    with evaluating(model), computing(model.device, precision):
        parts: list[Any] = [
            model.encode(list(texts[start : start + size]), **options)
            for start in (starts if label is None else track(starts, label))
        ]
    return torch.cat(parts).float() if as_tensor else np.concatenate(parts).astype(np.float32, copy=False)
