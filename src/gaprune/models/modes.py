"""Changing the mode, the precision, the padding or the limit of a model for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from gaprune.config.measurement import Precision
from gaprune.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


@contextmanager
def evaluating(model: SentenceTransformer) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode it was in."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def computing(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Let models with float32 weights compute matrix products in this precision; the residual stream is in float32.

    ``auto`` that was not decided (:func:`gaprune.models.precision.decide_precision`) changes nothing.
    """
    import torch

    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@contextmanager
def padded_inputs(model: SentenceTransformer) -> Iterator[None]:
    """Let the model's texts be padded to ``(texts, tokens)`` with an ``attention_mask``.

    With flash attention sentence-transformers lays the texts of a batch end to end otherwise, so that the rows of an
    activation do not say which text they belong to.
    """
    modules: Iterator[Any] = model.modules()
    before = {module: module.unpad_inputs for module in modules if hasattr(module, "unpad_inputs")}
    try:
        for module in before:
            module.unpad_inputs = False
        yield
    finally:
        for module, unpad in before.items():
            module.unpad_inputs = unpad


def limit_length(model: SentenceTransformer, max_length: int | None) -> None:
    """Let ``model`` truncate texts to ``max_length`` tokens; ``None`` keeps its own limit.

    Raises:
        ConfigError: If ``max_length`` is not between one and the model's own limit.
    """
    if max_length is None:
        return
    own = model.max_seq_length
    if max_length < 1 or (own is not None and max_length > own):
        raise ConfigError(
            f"max_length: {max_length} is outside 1 to {own}, the model's own limit.",
            "Lower max_length, or leave it out to use the model's own.",
        )
    model.max_seq_length = max_length


@contextmanager
def shortened(model: SentenceTransformer, max_length: int | None) -> Iterator[None]:
    """Let ``model`` truncate texts to ``max_length`` tokens in a ``with`` block, as :func:`limit_length` does."""
    own = model.max_seq_length
    limit_length(model, max_length)
    try:
        yield
    finally:
        if max_length is not None:
            model.max_seq_length = own
