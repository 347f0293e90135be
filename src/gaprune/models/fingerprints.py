"""What identifies a model: its weights, and the modules around them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["modules_fingerprint", "weights_fingerprint"]


def weights_fingerprint(model: SentenceTransformer) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of all weights of ``model``."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def modules_fingerprint(model: SentenceTransformer) -> str:
    """Return the SHA-256 over the modules of ``model`` and their settings: pooling, normalisation, sizes."""
    return hashlib.sha256(repr(model).encode()).hexdigest()
