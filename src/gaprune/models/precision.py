"""In which precision the matrix products of a model are computed while texts run through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from gaprune.config.measurement import Precision
from gaprune.errors import ConfigError
from gaprune.models.encode import encode_tensor
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CLOSE = 0.999
"""Least cosine between the embeddings of a text in bfloat16 and in float32 with which bfloat16 is used."""

_WORTH = 10**6
"""Weights of a model's linear layers below which casts cost more than products in bfloat16 save."""


def product_type(precision: Precision) -> torch.dtype:
    """Return the dtype to which matrices are rounded before they are multiplied; sums of products are in float32."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def decide_precision(
    model: SentenceTransformer, precision: Precision, texts: Sequence[str], prompt: str | None
) -> Precision:
    """Return the precision of a run: what was asked for, or the fastest that hardware and model allow.

    ``auto`` remains for a model with half-precision weights, which computes in their own dtype.

    Args:
        model: The parent.
        precision: What was asked for.
        texts: A few texts whose embeddings are compared; without any, ``auto`` means float32.
        prompt: Put before the texts.

    Raises:
        ConfigError: If the model's weights are in half precision and another precision was asked for.
    """
    own = str(next(model.parameters()).dtype).removeprefix("torch.")
    if own != "float32":
        if precision not in ("auto", own):
            raise ConfigError(
                f"precision: the parent's weights are {own}, so it does not compute in {precision}.",
                "Leave precision out, or load the parent in float32: --set dtype=float32.",
            )
        return precision
    if precision != "auto":
        return precision
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    if not texts or weights < _WORTH or not _has_bfloat16(model.device):
        return "float32"
    try:
        exact, fast = (
            encode_tensor(model, texts, "passage", prompt, precision=each) for each in ("float32", "bfloat16")
        )
    except RuntimeError as error:  # code that comes with a model may mix dtypes
        say(f"Texts run in float32: the model does not run in bfloat16 ({str(error).partition(chr(10))[0]}).")
        return "float32"
    cosine = float(functional.cosine_similarity(exact, fast).min())
    found: Precision = "bfloat16" if cosine >= _CLOSE else "float32"
    kept = f"the embeddings of {len(texts)} texts keep a cosine of {cosine:.5f} to those in float32"
    if found == "bfloat16":
        say(f"Texts run in bfloat16, which is faster here: {kept}. --set precision=float32 switches it off.")
    else:
        say(f"Texts run in float32: in bfloat16 {kept} alone.")
    return found


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware multiplies in bfloat16, so that it is faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(able.get(each) for each in ("amx_bf16", "avx512_bf16", "bf16"))
