"""A model folder loaded again, and its embeddings compared with those of the model in memory."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gaprune.errors import ModelError, OutputError
from gaprune.models.encode import encode
from gaprune.models.load import load_model, padded_inputs
from gaprune.models.prompts import Role, resolve_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

__all__ = ["check_reloaded"]

_TEXTS = ("net income of the quarter", "a dog runs over green grass, and a cat sleeps in the sun", "7 %")
_TOLERANCE = {2: 0.03, 4: 1e-3}
"""Most length of the difference of two embeddings, relative to the embedding, by the bytes of a number."""

_REMEDY = "Nothing was written. Please report this with the name of the model."


def check_reloaded(folder: Path, model: SentenceTransformer) -> None:
    """Check that the model in ``folder`` opens, and embeds a few queries and passages as ``model`` does.

    Raises:
        OutputError: If it does not.
    """
    try:
        again = load_model(
            folder,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            trust_remote_code=model.trust_remote_code,
        )
    except ModelError as error:
        raise OutputError(f"What was saved cannot be loaded again: {error.problem}", _REMEDY) from error
    if (again.max_seq_length, again.prompts) != (model.max_seq_length, model.prompts):
        raise OutputError(
            f"What was saved has other settings when it is loaded again: max_seq_length {again.max_seq_length} instead "
            f"of {model.max_seq_length}, or prompts {again.prompts} instead of {model.prompts}.",
            _REMEDY,
        )
    prompts = resolve_prompts(model)
    roles: tuple[Role, ...] = ("query", "passage")
    with ExitStack() as stack:
        for each in (model, again):
            stack.enter_context(padded_inputs(each))
            stack.enter_context(_whole(each))
        for role in roles:
            ours, theirs = (encode(each, _TEXTS, role, prompts) for each in (model, again))
            _compare(ours, theirs, role, tolerance=_TOLERANCE.get(model.dtype.itemsize, 1e-3))


@contextmanager
def _whole(model: SentenceTransformer) -> Iterator[None]:
    """All dimensions of embeddings: how many are read is a setting of the object, which no folder keeps."""
    dimensions, model.truncate_dim = model.truncate_dim, None
    try:
        yield
    finally:
        model.truncate_dim = dimensions


def _compare(ours: np.ndarray, theirs: np.ndarray, role: Role, *, tolerance: float) -> None:
    same = ours.shape == theirs.shape
    far = float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(ours, axis=1)).max()) if same else np.inf
    if not far <= tolerance:  # also if it is not a number
        raise OutputError(
            f"What was saved is another model when it is loaded again: the embedding of a {role} differs by {far:.2g} "
            f"of its length, of shape {theirs.shape} instead of {ours.shape}.",
            _REMEDY,
        )
