"""A model of another shape: a new transformer from a changed configuration, filled with the kept weights.

What is saved is the configuration and the weights, so a model made from just these is the model that reloads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaprune.errors import ModelError
from gaprune.models.blocks import transformer_of
from gaprune.models.load import CONSTRUCTION

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedConfig, PreTrainedModel


def rebuild(
    model: SentenceTransformer,
    changes: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    rename: Callable[[str], str | None] = lambda name: name,
    *,
    share: bool = False,
) -> SentenceTransformer:
    """Return a copy of ``model`` whose transformer has another configuration; ``model`` is left as it is.

    Args:
        model: The model.
        changes: Fields of the transformer's configuration with their new values.
        tensors: Weights of the transformer that are not those of ``model``, by their names there.
        rename: Returns the new name of a tensor, or ``None`` if it is left out.
        share: Whether all other weights are those of ``model`` itself, for a copy that is run and thrown away.

    Raises:
        ModelError: If the configuration cannot be what is asked, or the weights do not fit it.
    """
    old = transformer_of(model)
    config = changed_config(old.config, changes)
    state = {
        after: tensors.get(before, tensor)
        for before, tensor in old.state_dict().items()
        if (after := rename(before)) is not None
    }
    new = filled(skeleton(old, config), old, state, rename, share=share)
    return copy.deepcopy(model, {id(old): new, id(old.config): config})


def skeleton(old: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a transformer of the class of ``old`` with another configuration, whose tensors hold no numbers.

    Raises:
        ModelError: If the class refuses the configuration.
    """
    try:
        with CONSTRUCTION, torch.device("meta"):
            return type(old)(config)
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{type(old).__name__} cannot have this smaller shape: {type(error).__name__}: {reason}",
            "Remove more or fewer units, or something else.",
        ) from error


def filled(
    new: PreTrainedModel,
    old: PreTrainedModel,
    state: Mapping[str, Tensor],
    rename: Callable[[str], str | None] = lambda name: name,
    *,
    share: bool = False,
) -> PreTrainedModel:
    """Return ``new``, of :func:`skeleton`, with copies of the tensors of ``state``, and all that no checkpoint holds.

    With ``share`` it holds these tensors themselves.

    Raises:
        ModelError: If the tensors do not fit the configuration.
    """
    found = {name: each.detach() for name, each in state.items()}
    if not share:
        found = {name: each.clone(memory_format=torch.contiguous_format) for name, each in found.items()}
    try:
        new.load_state_dict(found, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"{type(old).__name__}: the kept weights do not fit the smaller configuration: {error}",
            "Remove something else; please report this family.",
        ) from error
    buffers = {rename(name): buffer for name, buffer in old.named_buffers()}  # positions, rotary frequencies
    for name, buffer in list(new.named_buffers()):
        if buffer.is_meta:
            path, _, last = name.rpartition(".")
            new.get_submodule(path).register_buffer(last, buffers[name].clone(), persistent=False)
    new.tie_weights()
    trained = {rename(name): each.requires_grad for name, each in old.named_parameters()}
    for name, each in new.named_parameters():
        each.requires_grad_(trained[name])
    new.train(old.training)
    return new


def changed_config(config: PreTrainedConfig, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """Return a copy of ``config`` with ``changes``, which a saved model would load."""
    from huggingface_hub.errors import StrictDataclassError

    changed = copy.deepcopy(config)
    try:
        for field, value in changes.items():
            setattr(changed, field, value)
        type(changed).from_dict(changed.to_dict())
    except (StrictDataclassError, ValueError, TypeError) as error:
        asked = ", ".join(f"{field} {value}" for field, value in changes.items())
        reason = str(error).strip().rpartition("\n")[2].strip()
        raise ModelError(
            f"{type(config).__name__} does not allow {asked}: {reason}", "Remove more or fewer units."
        ) from error
    return changed
