"""Repair as part of a run: fitted on most of the calibration triplets, kept only if the others agree."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.blocks import blocks
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import evaluating
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.cut import remove_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.blockwise import reconstruct_blocks
from gaprune.reconstruction.paired_stream import PairedBlockStream
from gaprune.statistics.degradation import ReferenceOutputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["ReconstructionReport", "quick_reconstruction", "reconstructed", "split"]

_HELD_OUT = 5
"""At most one triplet in so many is held out to judge the repair."""


@dataclass(frozen=True)
class ReconstructionReport:
    """What repair did.

    Args:
        kept: Whether the repaired model is the one that was taken.
        ridge: Pull towards the original weights: of those tried that lose for no kind of data (or of all, where each
            loses for one) the one with the least loss.
        general_share: Share of general texts among those it was fitted on.
        triplets: Domain triplets it was fitted on.
        held_out: Domain triplets it was judged on.
        harm_cut: What held-out triplets suffer without repair, by kind of data: increase of the contrastive loss over
            the parent's and, weighted, distance of embeddings to the parent's (:meth:`gaprune.statistics.Whole.harm`).
        harm_repaired: The same with repair.
    """

    kept: bool
    ridge: float
    general_share: float
    triplets: int
    held_out: int
    degradation_pruned: Mapping[str, float]
    degradation_reconstructed: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the provenance."""
        return asdict(self)


def reconstructed(
    parent: SentenceTransformer,
    keep: Mapping[str, Tensor],
    cut: Callable[[SentenceTransformer, bool], SentenceTransformer],
    calibration: Calibration,
    recipe: Recipe,
    *,
    gone: Collection[int] = (),
) -> tuple[SentenceTransformer, ReconstructionReport]:
    """Return the cut model with what stays refit, or just cut if held-out triplets of any kind show that repair loses.

    Args:
        parent: The model; it is left as it is.
        keep: What stays of each matrix, by name, as :func:`~gaprune.reconstruction.blockwise.reconstruct_blocks`
            takes it, numbered without the layers gone.
        cut: Takes away what else goes from a model without those layers, of which it may make use if the second
            argument is true.
        calibration: The triplets of a run: of each kind ``recipe.reconstruction_triplets`` are
            fitted on, and others, one in
            five (but two at least) and no more than half as many as that, are held out; drawn by the seed. Only kinds
            that the user named.
        recipe: Ridges to try, share of general texts, batch size, loss.
        gone: Layers that go altogether.

    Raises:
        ConfigError: If there are too few triplets to hold any out.
        SignalError: If the model's blocks cannot be run one by one, or the repaired model's loss is not finite.
    """
    fitted, judged = split(calibration, recipe)
    shares = _shares(fitted, recipe)

    wholes = {
        kind: ReferenceOutputs(parent, triplets, prompts=calibration.prompts, options=recipe)
        for kind, triplets in judged.items()
    }

    def degradations(model: SentenceTransformer) -> dict[str, float]:
        return {kind: whole.degradation(model) for kind, whole in wholes.items()}

    def mixed(found: Mapping[str, float]) -> float:
        return sum(shares[kind] * degradation for kind, degradation in found.items())

    plain = cut(remove_layers(parent, gone) if gone else parent, False)
    before = degradations(plain)
    best: tuple[SentenceTransformer, dict[str, float], float] | None = None

    def place(found: Mapping[str, float]) -> tuple[bool, float]:
        """Return what to order by: whatever loses for a kind of data comes after all that loses nowhere."""
        return not all(found[kind] <= before[kind] for kind in judged), mixed(found)

    for ridge in recipe.ridge:
        healed = cut(_healed(parent, keep, gone, fitted, calibration, recipe, ridge), True)
        after = degradations(healed)
        if not all(map(math.isfinite, after.values())):
            raise MeasurementError(
                "The repaired model's loss is not finite.",
                "Use a larger ridge (--ridge), or leave repair out (--no-reconstruct).",
            )
        if best is None or place(after) < place(best[1]):
            best = healed, after, ridge
        del healed  # or the last one would stay beside the next
    if best is None:
        raise ConfigError("ridge: no value is given.", "Name one or more: --ridge 0.1.")
    healed, after, ridge = best
    kept = not place(after)[0]
    general, counts = shares.get("general", 0.0), (len(fitted["domain"]), len(judged["domain"]))
    report = ReconstructionReport(kept, ridge, general, *counts, before, after)
    return (healed if kept else plain), report


def _healed(
    parent: SentenceTransformer,
    keep: Mapping[str, Tensor],
    gone: Collection[int],
    fitted: Mapping[str, Triplets],
    calibration: Calibration,
    recipe: Recipe,
    ridge: float,
) -> SentenceTransformer:
    """Return a copy of the parent that is pruned and refit block by block, in the parent's own mode."""
    healed = remove_layers(parent, gone) if gone else copy.deepcopy(parent)
    stays = [layer for layer in range(len(blocks(parent))) if layer not in gone]

    def stream(model: SentenceTransformer, kind: str) -> BlockStream:
        size = 2 * recipe.triplets_per_batch
        return BlockStream(model, fitted[kind], prompts=calibration.prompts, batch_size=size, label=kind)

    with evaluating(healed), evaluating(parent):
        courses = [
            (share, PairedBlockStream(stream(healed, kind), stream(parent, kind), stays))
            for kind, share in _shares(fitted, recipe).items()
            if share
        ]
        reconstruct_blocks(healed, keep, courses, ridge=ridge)
    return healed


def quick_reconstruction(
    parent: SentenceTransformer,
    calibration: Calibration,
    recipe: Recipe,
    gone: Collection[int] = (),
    keep: Mapping[str, Tensor] = MappingProxyType({}),
) -> SentenceTransformer:
    """Return what repair would begin with, fitted on fewer texts: enough to see what had better go.

    Only matrices that lose something are refit, and the last one before each gap.

    Args:
        parent: The model; it is left as it is.
        calibration: The triplets of a run: ``recipe.layer_triplets`` of those that repair would be fitted on are.
        recipe: Ridge (of several the first), share of general texts, batch size.
        gone: Layers that go altogether.
        keep: What stays of each matrix that loses something, true for columns ``(in,)``, by its name without the
            layers gone; the others are set to zero.

    Raises:
        ConfigError: If there are too few triplets to hold any out.
        SignalError: If the model's blocks cannot be run one by one.
    """
    fitted, _ = split(calibration, recipe)
    stays = [layer for layer in range(len(blocks(parent))) if layer not in gone]
    last = {matrix.layer: matrix for matrix in linear_layers(parent) if matrix.writes_residual}
    # The blocks that stay have the places, and so the names, of as many from the first.
    bridges = {
        last[place].name: torch.ones(last[layer].module.in_features, dtype=torch.bool)
        for place, layer in enumerate(stays)
        if layer + 1 in gone
    }
    few = {kind: triplets[: recipe.layer_triplets] for kind, triplets in fitted.items()}
    return _healed(parent, bridges | dict(keep), gone, few, calibration, recipe, recipe.ridge[0])


def _shares(fitted: Mapping[str, Triplets], recipe: Recipe) -> dict[str, float]:
    """Return the share of each kind of texts in what repair is fitted on."""
    if "general" not in fitted:
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
                "Name at least three, or leave repair out: --no-reconstruct (reconstruct=False).",
            )
        shuffled = triplets.take(len(triplets), seed=recipe.seed)
        judged[kind], fitted[kind] = shuffled[:last], shuffled[last:][: recipe.reconstruction_triplets]
    return fitted, judged
