"""Who a model is: everything that its embeddings depend on, and nothing that changes when it is saved and loaded."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.models.blocks import block_path
from gaprune.models.encode import tokenized
from gaprune.models.modes import evaluating
from gaprune.models.probe import embedding
from gaprune.models.prompts import TASKS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_VOLATILE = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")
"""Fields of a configuration that say where a model came from or how it is stored."""


def weights_fingerprint(model: SentenceTransformer) -> str:
    """Return the SHA-256 over the values of all weights that the embeddings of ``model`` depend on, by sorted name.

    All weights in the blocks count, and outside them those that the embedding of a text depends on. A pooler that
    nothing reads, which is drawn at random when the checkpoint lacks it, does not. Values are read as float32, so that
    the same values in another type are the same model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(model).items()):
        values = tensor.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def modules_fingerprint(model: SentenceTransformer) -> str:
    """Return the SHA-256 over the modules of ``model`` and their settings: pooling, sizes, attention, activations."""
    transformer = model.transformers_model
    config: dict[str, Any] = {} if transformer is None else transformer.config.to_dict()
    settings = {field: value for field, value in config.items() if field not in _VOLATILE}
    said = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(f"{model!r} {said}".encode()).hexdigest()


def _tensors(model: SentenceTransformer) -> dict[str, Tensor]:
    """Return the weights that count, and the buffers of checkpoints, by name."""
    transformer = model.transformers_model
    path = "" if transformer is None else block_path(transformer)
    inside = set(transformer.get_submodule(path).parameters()) if transformer is not None and path else set()
    parameters = dict(model.named_parameters())
    counted = inside | (reached(model) or set(parameters.values()))
    found: dict[str, Tensor] = {name: each for name, each in parameters.items() if each in counted}
    states = model.state_dict()
    return found | {name: each for name, each in model.named_buffers() if name in states}


def reached(model: SentenceTransformer) -> set[nn.Parameter]:
    """Return the parameters in the graph of the embeddings of a query and a passage; nothing is differentiated."""
    parameters = [each for each in model.parameters() if each.is_floating_point()]
    required = [each.requires_grad for each in parameters]
    found: set[nn.Parameter] = set()
    try:
        for each in parameters:
            each.requires_grad_()
        with evaluating(model), torch.enable_grad(), embedding():
            for role, task in TASKS.items():
                features = tokenized(model, ["a short text"], role)
                found |= _leaves(model(features, task=task)["sentence_embedding"].grad_fn)
    finally:
        for each, was_required in zip(parameters, required, strict=True):
            each.requires_grad_(was_required)
    return found


def _leaves(end: Any) -> set[nn.Parameter]:
    """Return the parameters at the beginning of a graph of autograd."""
    found: set[nn.Parameter] = set()
    seen, left = {end}, [end]
    while left:
        node = left.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            found.add(node.variable)
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        left += new
    return found
