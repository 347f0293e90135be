"""Loading sentence-transformers models, and changing their mode or limit for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.config.measurement import Precision
from gaprune.errors import ConfigError, ModelError
from gaprune.models.formats import graph_of
from gaprune.util.progress import say

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = [
    "CONSTRUCTION", "computing", "evaluating", "limit_length", "load_model", "most_tokens", "padded_inputs",
    "shortened",
]  # fmt: skip

# transformers replaces methods of its classes while it constructs a model (no_init_weights, no_tie_weights).
# Two threads that do so at the same time would leave the replacements behind, and later models untied.
CONSTRUCTION = threading.RLock()


def load_model(
    name: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
) -> SentenceTransformer:
    """Load a sentence-transformers model from a folder or the hub.

    Args:
        name: Folder, or hub id.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the model may run.
        device: Torch device; default: sentence-transformers chooses.
        dtype: Name of a torch dtype (``float32``, ``bfloat16``); default: the checkpoint's own.
        max_length: Texts are truncated to this many tokens; default: the model's own limit.

    Raises:
        ModelError: If the folder or the hub id cannot be loaded.
        ConfigError: If ``device``, ``dtype`` or ``max_length`` makes no sense here.
    """
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    if dtype is not None:
        known = getattr(torch, dtype, None)
        if not (isinstance(known, torch.dtype) and known.is_floating_point):
            raise ConfigError(
                f"dtype: {dtype!r} is not a floating-point torch dtype.", "Use float32, bfloat16 or float16."
            )
    if device is not None:
        _check_device(device)
    folder = Path(name)
    graph = graph_of(folder)
    if graph is not None:
        raise ModelError(
            f"{folder} is an exported model ({graph}), which cannot be loaded in PyTorch.",
            "Name the folder it was made from. evaluate, bench, inspect and ExportedModel take exported ones.",
        )
    if folder.is_dir() and not any(folder.glob("*.json")):
        raise ModelError(f"The folder {folder} holds no model (no .json configuration).", "Name a model's own folder.")
    try:
        with CONSTRUCTION:
            model = SentenceTransformer(
                str(name),
                revision=revision,
                trust_remote_code=trust_remote_code,
                device=device,
                model_kwargs={} if dtype is None else {"dtype": dtype},
            )
    except (OSError, ValueError, TypeError, LookupError, ImportError, RuntimeError, SafetensorError) as error:
        remedy = (
            "Its own code must run to load it: pass trust_remote_code (--trust-remote-code) if you trust its authors."
            if "trust_remote_code" in str(error)
            else "Give the folder of a sentence-transformers model, or a hub id while the hub can be reached."
        )
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"The model {name} cannot be loaded: {reason}", remedy) from error
    _fit_positions(model)
    limit_length(model, max_length)
    return model


def most_tokens(model: SentenceTransformer) -> int | None:
    """Return the tokens for which ``model`` has positions; ``None`` if that is not limited by a table.

    RoBERTa, XLM-R and MPNet count positions from the padding token's id: of 514 rows they use 512.
    """
    from torch import nn

    found = [
        table.num_embeddings - table.padding_idx - 1
        for module in model.modules()
        if isinstance(table := getattr(module, "position_embeddings", None), nn.Embedding)
        and table.padding_idx is not None
    ]
    return min(found, default=None)


def _fit_positions(model: SentenceTransformer) -> None:
    """Let a model that would take longer texts than it has positions for truncate them."""
    most = most_tokens(model)
    if most is not None and (model.max_seq_length or most + 1) > most:
        say(f"Texts are truncated to {most} tokens: the model says {model.max_seq_length}, but has no more positions.")
        model.max_seq_length = most


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(1, device=device).item()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for a device
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device: {device!r} cannot be used: {reason}", "Use cpu, or leave device out.") from error


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
