"""A model reconstructed block by block on most of the triplets, with the inputs that changed blocks really give."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks
from gaprune.models.heads import head_place, is_head
from gaprune.models.hidden import embedding_norm
from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.modes import evaluating
from gaprune.models.prompts import Prompts, Role
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.cut import remove_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.head import fit_head
from gaprune.reconstruction.least_squares import fit_columns, fit_entries
from gaprune.reconstruction.moments import Moments
from gaprune.reconstruction.norms import NormMoments, fit_norm
from gaprune.reconstruction.paired_stream import PairedBlockStream
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_HELD_OUT = 5
"""At most one triplet in so many is held out."""

KINDS = ("attention", "mlp", "unknown")
"""The order in which the parts of a block are fitted; the FFN sees the output of the reconstructed attention."""


def shares_of(kinds: Collection[str], recipe: Recipe) -> dict[str, float]:
    """Return the share of each kind of texts in the mixture that is fitted."""
    if "general" not in kinds:
        return {"domain": 1.0}
    return {"domain": 1 - recipe.general_share, "general": recipe.general_share}


def split(calibration: Calibration, recipe: Recipe) -> tuple[dict[str, Triplets], dict[str, Triplets]]:
    """Return the triplets to fit on and those to judge on, by kind of data, drawn by the recipe's seed.

    Raises:
        ConfigError: If there are too few.
    """
    fitted: dict[str, Triplets] = {}
    judged: dict[str, Triplets] = {}
    for kind, triplets in calibration.of_user().items():
        last = max(2, min(len(triplets) // _HELD_OUT, recipe.reconstruction_triplets // 2))
        if len(triplets) <= last:
            raise ConfigError(
                f"reconstruct: {len(triplets)} {kind} triplets are too few to fit on some and judge on others.",
                "Name at least three, or switch reconstruction off: --no-reconstruct (reconstruct=False).",
            )
        shuffled = triplets.take(len(triplets), seed=recipe.seed)
        judged[kind], fitted[kind] = shuffled[:last], shuffled[last:][: recipe.reconstruction_triplets]
    return fitted, judged


@dataclass(frozen=True)
class Start:
    """The model that a reconstruction starts from.

    Args:
        model: The parent, or what is left of it without whole layers and hidden dimensions.
        removed_layers: Layers of the parent that are removed.
        outputs: Where hidden dimensions are removed, which of the parent's outputs linear layers have: indices
            ``(out,)`` by name of the layer in ``model``; all of them where a name is missing.
    """

    model: SentenceTransformer
    removed_layers: Collection[int] = ()
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def without(cls, parent: SentenceTransformer, removed_layers: Collection[int]) -> Self:
        """Return the parent without some layers."""
        return cls(remove_layers(parent, removed_layers) if removed_layers else parent, removed_layers)


def reconstructed_copy(
    parent: SentenceTransformer,
    start: Start,
    keep: Mapping[str, Tensor],
    triplets: Mapping[str, Triplets],
    recipe: Recipe,
    *,
    prompts: Prompts,
    ridge: float,
) -> SentenceTransformer:
    """Return a pruned copy of ``start.model``, fitted block by block on the texts of ``triplets``."""
    child = copy.deepcopy(start.model)
    kept = [layer for layer in range(len(blocks(parent))) if layer not in start.removed_layers]

    with evaluating(child), evaluating(parent):
        streams = []
        for share, whole in shared_streams(parent, triplets, recipe, prompts):
            # With fewer hidden dimensions the texts enter a model in another way than its parent.
            own = block_stream(child, whole.triplets, recipe, prompts) if start.outputs else whole.through(child, kept)
            streams.append((share, PairedBlockStream(own, whole, kept, start.outputs)))
        reconstruct_blocks(child, keep, streams, ridge=ridge, norms=bool(start.outputs))
        if start.outputs and is_head(child):
            _fit_head(child, parent, triplets, prompts)
    return child


def _fit_head(
    child: SentenceTransformer, parent: SentenceTransformer, triplets: Mapping[str, Triplets], prompts: Prompts
) -> None:
    """Fit the linear head that reads fewer hidden dimensions."""
    items = [item for found in triplets.values() for item in found]
    texts: dict[Role, list[str]] = {
        "query": [item.query for item in items],
        "passage": [passage for item in items for passage in item.passages],
    }
    place = head_place(child) - 1
    head = child.pop(place)
    child.insert(place, fit_head(child, parent, texts, prompts=prompts) if items else head)


def shared_streams(
    parent: SentenceTransformer, triplets: Mapping[str, Triplets], recipe: Recipe, prompts: Prompts
) -> list[tuple[float, BlockStream]]:
    """Return the texts of each kind at the first block of the parent, with their shares in the mixture."""
    return [
        (share, block_stream(parent, triplets[kind], recipe, prompts))
        for kind, share in shares_of(triplets, recipe).items()
        if share
    ]


def block_stream(model: SentenceTransformer, triplets: Triplets, recipe: Recipe, prompts: Prompts) -> BlockStream:
    """Return the texts of triplets at the first block of a model."""
    size = 2 * recipe.triplets_per_batch
    return BlockStream(model, triplets, prompts=prompts, batch_size=size, precision=recipe.precision)


@torch.no_grad()
def reconstruct_blocks(
    model: SentenceTransformer,
    keep: Mapping[str, Tensor],
    streams: Sequence[tuple[float, PairedBlockStream]],
    *,
    ridge: float,
    norms: bool = False,
) -> None:
    """Prune and fit linear layers in place, block by block.

    Args:
        model: The model that ``streams`` run through; its weights and biases change.
        keep: By name of a linear layer in a block, true for kept entries ``(out, in)`` or columns ``(in,)``; all
            linear layers named are fitted.
        streams: Calibration texts at the first block, with their shares in the mixture.
        ridge: See :mod:`gaprune.reconstruction.least_squares`.
        norms: Whether norms of the residual stream are fitted too, see :mod:`gaprune.reconstruction.norms`.

    Raises:
        UnsolvedError: If a linear layer cannot be fitted.
    """
    if norms and (first := embedding_norm(model)) is not None:
        affine = fit_norm(first, _mixed_means([(share, stream.entry) for share, stream in streams]), ridge=ridge)
        for _, stream in streams:
            stream.rescale_entry(*affine)
    for stages in track(_stages(model, keep), f"Reconstructing layers (ridge {ridge:g})"):
        for _, stream in streams if stages else ():
            stream.copy_final_norm()
        for stage in stages:
            moments = mixed([(share, stream.moments(stage)) for share, stream in streams])
            for linear in stage:
                fit(linear, moments[linear.name], keep[linear.name], ridge)
                if norms and linear.writes_residual:
                    found = [(share, stream.norm_after(linear)) for share, stream in streams]
                    parts = [(share, each[1]) for share, each in found if each is not None]
                    if found[0][1] is not None:
                        fit_norm(found[0][1][0], _mixed_means(parts), ridge=ridge)
        for _, stream in streams:
            stream.advance()


def _stages(model: SentenceTransformer, keep: Mapping[str, Tensor]) -> list[list[list[LinearLayer]]]:
    """Return for every block, up to the last that changes, groups of linear layers that are fitted on one pass.

    Those that write to the residual stream read what the others give, and so come after them.
    """
    stages: list[list[list[LinearLayer]]] = [[] for _ in blocks(model)]
    named = [linear for linear in linear_layers(model) if linear.name in keep and linear.layer is not None]
    for layer, block in enumerate(stages):
        for kind in KINDS:
            here = [linear for linear in named if (linear.layer, linear.kind) == (layer, kind)]
            for writes in (False, True):
                block.append([linear for linear in here if linear.writes_residual is writes])
        block[:] = filter(None, block)
    while stages and not stages[-1]:
        stages.pop()
    return stages


def mixed(parts: Sequence[tuple[float, Mapping[str, Moments]]]) -> dict[str, Moments]:
    """Return the moments of the mixture by name."""
    found: dict[str, Moments] = {}
    total = 0.0
    for share, moments in parts:
        total += share
        found = {name: found[name].mixed(each, share / total) if found else each for name, each in moments.items()}
    return found


def _mixed_means(parts: Sequence[tuple[float, NormMoments]]) -> Tensor:
    return torch.stack([share * each.means for share, each in parts]).sum(0) / sum(share for share, _ in parts)


def fit(linear: LinearLayer, moments: Moments, keep: Tensor, ridge: float) -> None:
    """Prune a linear layer and fit what is kept.

    Raises:
        UnsolvedError: If it cannot be fitted; it is left as it is then.
    """
    module = linear.module
    solve = fit_columns if keep.ndim == 1 else fit_entries
    old_bias = None if module.bias is None else module.bias.float()
    kept = keep.to(module.weight.device)
    weight, bias = solve(module.weight.float(), old_bias, moments, kept, ridge=ridge, name=linear.name)
    module.weight.copy_(weight)
    if bias is not None:
        module.bias.copy_(bias)
