"""Embedding texts with a sentence-transformers model: the only place that calls its ``encode``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from gaprune.config.measurement import Precision
from gaprune.models.modes import computing, evaluating
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.util.progress import track

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_CHUNK = 1024
"""Number of texts between two steps of the progress bar."""


class _Options(TypedDict, total=False):
    """How texts are encoded.

    ``batch_size`` is the number of texts encoded at a time, 32 by default. ``normalize`` scales every embedding to
    length one. ``label`` is the title of a progress bar; default: none. ``precision`` is that of the model's
    matrix products (:mod:`gaprune.models.precision`).
    """

    batch_size: int
    normalize: bool
    label: str | None
    precision: Precision


def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    **options: Unpack[_Options],
) -> NDArray[np.float32]:
    """Return the embeddings of texts, ``(texts, dim)`` in float32; the model keeps its training or evaluation mode.

    Args:
        model: The model.
        texts: At least one text.
        role: Whether the texts are queries or passages; ``None`` for texts that are neither.
        prompts: The prompts of both roles, or one prompt for these texts; ``None`` for the model's default prompt.
        **options: ``batch_size``, ``normalize``, ``label`` and ``precision``.
    """
    parts = _encoded(model, texts, role, prompts, as_tensor=False, **options)
    return np.concatenate(parts).astype(np.float32, copy=False)


def tokenized(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None = None,
    prompt: str | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Return what the model reads for texts of a role after a prompt: token ids, masks and the like, on a device.

    ``device`` is the model's own by default.
    """
    place = device or model.device
    features = model.preprocess(list(texts), prompt=prompt, task=None if role is None else TASKS[role])
    return {name: each.to(place) if hasattr(each, "to") else each for name, each in features.items()}


def encode_tensor(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    **options: Unpack[_Options],
) -> Tensor:
    """Return what :func:`encode` does as a tensor on the model's device."""
    import torch

    return torch.cat(_encoded(model, texts, role, prompts, as_tensor=True, **options)).float()


def _encoded(
    model: SentenceTransformer,
    texts: Sequence[str],
    role: Role | None,
    prompts: Prompts | str | None,
    *,
    as_tensor: bool,
    batch_size: int = 32,
    normalize: bool = False,
    label: str | None = None,
    precision: Precision = "float32",
) -> list[Any]:
    # An empty prompt, unlike None, switches off the model's own prompt.
    prompt = (prompts.passage if role == "passage" else prompts.query) if isinstance(prompts, Prompts) else prompts
    options: dict[str, Any] = {"prompt": prompt, "batch_size": batch_size, "normalize_embeddings": normalize}
    options |= {"convert_to_tensor": as_tensor, "show_progress_bar": False}
    if role is not None:
        options["task"] = TASKS[role]
    size = len(texts) if label is None else _CHUNK
    starts = range(0, len(texts), size)
    with evaluating(model), computing(model.device, precision):
        return [
            model.encode(list(texts[start : start + size]), **options)
            for start in (starts if label is None else track(starts, label))
        ]
