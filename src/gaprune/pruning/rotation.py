"""Rotating the residual stream of a model with RMSNorm to its principal axes, the last of which cost least to cut.

RMSNorm divides by a length, which no rotation changes. So with the scales of the norms multiplied into the linear
layers that read them, one orthogonal matrix ``Q`` for all layers can turn the stream ``x`` into ``x Q``: tables and
linear layers that write to it are multiplied by ``Q``, linear layers that read it by its inverse. The model computes
what it did, and is an ordinary checkpoint of its family.

Source:
    SliceGPT (Ashkboos et al. 2024, arXiv 2401.15024), which has a rotation for each block, and so further matrices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.errors import ConfigError, ModelError
from gaprune.models.blocks import block_path, transformer_of
from gaprune.models.encode import encode, encode_tensor
from gaprune.models.heads import add_head, dense_head
from gaprune.models.hidden import hidden_groups, modules_after
from gaprune.models.linear_layers import linear_layers
from gaprune.models.modes import padded_inputs
from gaprune.pruning.calibration import Calibration

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.config.recipe import Recipe

_TEXTS = ("one text", "another text, which is longer")

_CLOSE = 0.999
"""The least cosine between embeddings before and after a rotation; bfloat16 rounds by less."""

_OTHER = "Leave the rotation out (--set rotate=false): dimensions are then removed as they are."


def check_rotation(model: SentenceTransformer) -> None:
    """Refuse a model whose residual stream cannot be rotated.

    Raises:
        ModelError: It names the module.
    """
    _norms(model)


def rotated(model: SentenceTransformer, calibration: Calibration, recipe: Recipe) -> SentenceTransformer:
    """Return a copy of ``model`` whose residual stream lies along its principal axes, the largest first.

    The axes are the eigenvectors of the second moments of what the norms read, each token divided by its length: the
    sum over all norms and over tokens of ``recipe.reconstruction_triplets`` triplets of each kind.

    Raises:
        ConfigError: If the run has no triplets.
        ModelError: If the stream of this family cannot be rotated.
    """
    norms = _norms(model)
    moments = torch.zeros(2 * (transformer_of(model).config.hidden_size,), dtype=torch.float64, device=model.device)
    if not calibration.by_kind:
        raise ConfigError("rotate: the axes are those of your texts, and none are named.", "Name triplets: --domain.")
    with _adding(model, norms, moments):
        for triplets in calibration.by_kind.values():
            few = triplets[: recipe.reconstruction_triplets]
            passages = [text for item in few for text in item.passages]
            encode(model, [item.query for item in few], "query", calibration.prompts, precision=recipe.precision)
            encode(model, passages, "passage", calibration.prompts, precision=recipe.precision)
    return rotate(model, torch.linalg.eigh(moments).eigenvectors.flip(1))


@torch.no_grad()
def rotate(model: SentenceTransformer, axes: Tensor) -> SentenceTransformer:
    """Return a copy of ``model`` with the same embeddings whose residual stream is multiplied by a rotation.

    Args:
        model: The model.
        axes: An orthogonal matrix ``Q``, ``(hidden, hidden)``, one axis in every column.

    Raises:
        ModelError: If the stream of this family cannot be rotated.
    """
    norms = _norms(model)
    child = copy.deepcopy(model)
    transformer, axes = transformer_of(child), axes.double()
    scales = {path: _made_neutral(path, transformer.get_submodule(path)) for path in norms}
    norm_of = {reader: path for path, readers in norms.items() for reader in readers}
    for linear in linear_layers(child):
        if linear.layer is not None and linear.writes_residual:
            linear.module.weight.copy_(axes.T @ linear.module.weight.double())
            if linear.module.bias is not None:
                linear.module.bias.copy_(linear.module.bias.double() @ axes)
        elif linear.layer is not None:
            weight = linear.module.weight
            weight.copy_((weight.double() * scales[norm_of[linear.name]]) @ axes)
    for module in transformer.modules():
        if isinstance(module, nn.Embedding) and module.embedding_dim == len(axes):
            module.weight.copy_(module.weight.double() @ axes)
    last = next(path for path, readers in norms.items() if not readers)
    _turn_back(child, scales[last][:, None] * axes)
    before, after = (encode_tensor(each, _TEXTS, None, None).double() for each in (model, child))
    if torch.cosine_similarity(before, after).min() < _CLOSE:
        raise ModelError(f"{type(transformer).__name__} gives other embeddings if its stream is rotated.", _OTHER)
    return child


def _norms(model: SentenceTransformer) -> dict[str, list[str]]:
    """Return the norms of the residual stream by path, with the names of the linear layers that read their output.

    The last norm, which none of them reads, has no names.

    Raises:
        ModelError: If a norm is none that can be rotated, or is read by something else.
    """
    hidden_groups(model)
    norms = stream_norms(model)
    for path, norm in norms.items():
        _check_norm(path, norm)
    found = _readers(model, norms)
    unread = [path for path, names in found.items() if not names]
    inside = f"{block_path(transformer_of(model))}."
    for path in unread:
        if path.startswith(inside) or len(unread) > 1:
            raise ModelError(
                f"The output of {path} is read by something other than linear layers (it is added to the residual "
                "stream, as in Gemma), so its scale cannot be multiplied into them.",
                _OTHER,
            )
    if not unread:
        raise ModelError("No norm follows the last block, so the residual stream cannot be rotated.", _OTHER)
    return found


def stream_norms(model: SentenceTransformer) -> dict[str, nn.Module]:
    """Return the norms of the residual stream, those with a scale for every hidden dimension, by path."""
    size = transformer_of(model).config.hidden_size
    return {
        path: module
        for path, module in transformer_of(model).named_modules()
        if "Norm" in type(module).__name__ and getattr(module, "weight", torch.empty(0)).shape == (size,)
    }


def _readers(model: SentenceTransformer, norms: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Return the names of the linear layers in blocks that read the output of each norm, seen in a forward pass.

    Raises:
        ModelError: If a linear layer that reads the residual stream reads no output of a norm.
    """
    readers = [each for each in linear_layers(model) if each.layer is not None and not each.writes_residual]
    given: list[tuple[Tensor, str]] = []  # the tensors are kept, so that no other has the same place in memory
    found: dict[str, list[str]] = {path: [] for path in norms}
    missing = {each.name for each in readers}

    def read(name: str, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        for value, path in given:
            if value.data_ptr() == args[0].data_ptr() and name in missing:
                found[path].append(name)
                missing.discard(name)

    with ExitStack() as stack:
        for path, norm in norms.items():
            stack.callback(norm.register_forward_hook(partial(_append, given, path)).remove)
        for each in readers:
            stack.callback(each.module.register_forward_pre_hook(partial(read, each.name)).remove)
        encode(model, _TEXTS[:1], None, None)
    for name in sorted(missing):
        raise ModelError(f"{name} reads no output of a norm, so the residual stream cannot be rotated.", _OTHER)
    return found


def _append(given: list[tuple[Tensor, str]], path: str, _module: nn.Module, _args: Any, output: Tensor) -> None:
    given.append((output, path))


@torch.no_grad()
def _check_norm(path: str, norm: nn.Module) -> None:
    """Refuse a norm that does more than to divide by a length and to multiply by a scale.

    Raises:
        ModelError: It names the norm.
    """
    weight = norm.get_parameter("weight")
    ones = torch.ones_like(weight)
    values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight)
    expected = norm(ones).double() * values.double() / values.double().square().mean().sqrt()
    if not torch.allclose(norm(values).double(), expected, rtol=0.02, atol=0.02 * float(expected.abs().max())):
        raise ModelError(
            f"{path} is a {type(norm).__name__}, which does more than RMSNorm, so the residual stream cannot be "
            "rotated.",
            _OTHER,
        )


@torch.no_grad()
def _made_neutral(path: str, norm: nn.Module) -> Tensor:
    """Return the scale of a norm, ``(hidden,)`` in fp64, and let the norm have one of ones."""
    weight = norm.get_parameter("weight")
    ones = torch.ones_like(weight)
    scale: Tensor = norm(ones).double()
    for neutral in (1.0, 0.0):  # some families multiply by 1 + weight
        weight.fill_(neutral)
        if torch.allclose(norm(ones).double(), ones.double(), rtol=1e-3):
            return scale
    raise ModelError(f"{path} ({type(norm).__name__}) has a scale that cannot be taken out.", _OTHER)


def _turn_back(child: SentenceTransformer, back: Tensor) -> None:
    """Let the modules after the transformer turn embeddings back, by the linear layer that is there or a new one."""
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling

    matrix = back
    for module in modules_after(child):
        if isinstance(module, Pooling):
            modes = [module.pooling_mode] if isinstance(module.pooling_mode, str) else module.pooling_mode
            if "max" in modes:
                raise ModelError("The model pools by the maximum, which a rotation would change.", _OTHER)
            matrix = torch.kron(torch.eye(len(modes)).to(back), back.contiguous())
        if isinstance(module, Dense):
            module.linear.weight.copy_(module.linear.weight.double() @ matrix)
            return
    add_head(child, dense_head(matrix, child))


@contextmanager
def _adding(model: SentenceTransformer, norms: Mapping[str, Sequence[str]], moments: Tensor) -> Iterator[None]:
    """Add the second moments of what the norms read to ``moments``, whenever the model embeds texts."""
    masks: list[Tensor] = []

    def read_mask(_module: nn.Module, args: tuple[dict[str, Tensor], ...]) -> None:
        masks[:] = [args[0]["attention_mask"]]

    def add(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = args[0][masks[0].bool().to(args[0].device)].double()
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        moments.add_((rows.T @ rows).to(moments.device))

    with ExitStack() as stack:
        stack.enter_context(padded_inputs(model))
        # sentence-transformers calls the forward method of the transformer itself, which passes by hooks.
        stack.callback(model[0].register_forward_pre_hook(read_mask).remove)
        for path in norms:
            norm = transformer_of(model).get_submodule(path)
            stack.callback(norm.register_forward_pre_hook(add).remove)
        yield
