"""A model folder loaded again, and its zeros and embeddings compared with those of the model in memory."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import bfloat16, float16

from gaprune.errors import ModelError, OutputError
from gaprune.export.provenance import Provenance
from gaprune.models.encode import encode
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.modes import padded_inputs
from gaprune.models.prompts import Role, resolve_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

_TEXTS = ("net income of the quarter", "a dog runs over green grass, and a cat sleeps in the sun", "7 %")
_SINGLE, _HALF = 1e-3, 0.03
"""Most length of the difference of two embeddings, relative to the embedding, for fp32 and for types of two bytes."""

_REMEDY = "Nothing was written. Please report this with the name of the model."


def check_reloaded(folder: Path, model: SentenceTransformer, provenance: Provenance) -> None:
    """Check that the model in ``folder`` opens, has the zeros of its provenance, and embeds as ``model`` does.

    A few queries and passages are embedded. Names in the files are not looked at: transformers writes some families
    (Nomic, GTE) under the names and with the fused layers of their original checkpoints.

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
            f"What was saved has other settings when it is loaded again: max_seq_length {again.max_seq_length} and "
            f"prompts {again.prompts} instead of {model.max_seq_length} and {model.prompts}.",
            _REMEDY,
        )
    _check_zeros(again, provenance)
    prompts = resolve_prompts(model)
    roles: tuple[Role, ...] = ("query", "passage")
    with ExitStack() as stack:
        for each in (model, again):
            stack.enter_context(padded_inputs(each))
            stack.enter_context(_whole(each))
        for role in roles:
            ours, theirs = (encode(each, _TEXTS, role, prompts) for each in (model, again))
            _compare(ours, theirs, role, tolerance=_HALF if model.dtype in (float16, bfloat16) else _SINGLE)


def _check_zeros(model: SentenceTransformer, provenance: Provenance) -> None:
    """Check that the selected layers of a loaded model have as many zeros as its provenance says."""
    if not provenance.method.selected:
        return
    weights = {layer.name: layer.module.weight for layer in linear_layers(model)}
    missing = next((name for name in provenance.method.selected if name not in weights), None)
    if missing is not None:
        raise OutputError(f"The saved files do not have the weights of {missing}.", _REMEDY)
    zeros = sum(weights[name].numel() - int(weights[name].count_nonzero()) for name in provenance.method.selected)
    if zeros != provenance.sparsity.removed:
        raise OutputError(
            f"The saved files have {zeros:,} zeros in the selected layers instead of {provenance.sparsity.removed:,}.",
            _REMEDY,
        )


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
