"""Quick reconstructions, fitted on few texts: enough to compare what could be removed."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from gaprune.config.recipe import Recipe
from gaprune.data.triplets import Triplets
from gaprune.models.blocks import blocks
from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.modes import evaluating
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.unit_importance import Narrowing
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.least_squares import UnsolvedError
from gaprune.reconstruction.paired_stream import PairedBlockStream
from gaprune.reconstruction.reconstruct import (
    KINDS,
    Start,
    block_stream,
    fit,
    mixed,
    reconstructed_copy,
    shared_streams,
    split,
)
from gaprune.statistics.degradation import LayerEffect, ReferenceOutputs, finite_effect
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_Effects = dict[str, dict[int, LayerEffect]]
_Streams = list[tuple[float, BlockStream]]


@dataclass(frozen=True)
class Quick:
    """Makes quick reconstructions of a parent.

    Only linear layers that lose columns are fitted, and the last one before each gap of removed layers. One that
    cannot be fitted is only pruned.

    Args:
        parent: The model; it is left as it is.
        calibration: The triplets of a run; ``recipe.layer_triplets`` of those for the reconstruction are used.
        recipe: Ridge (of several the first), share of general texts, batch size, precision.
    """

    parent: SentenceTransformer
    calibration: Calibration
    recipe: Recipe

    @property
    def _fitted(self) -> dict[str, Triplets]:
        fitted, _ = split(self.calibration, self.recipe)
        return {kind: triplets[: self.recipe.layer_triplets] for kind, triplets in fitted.items()}

    def __call__(
        self,
        removed_layers: Collection[int] = (),
        keep: Mapping[str, Tensor] = MappingProxyType({}),
        narrow: Narrowing | None = None,
    ) -> SentenceTransformer:
        """Return the parent without some layers and input columns, reconstructed.

        Args:
            removed_layers: Layers that are removed altogether.
            keep: Kept columns ``(in,)`` of each linear layer that loses some, by name without the removed layers; the
                other columns are set to zero.
            narrow: Cuts hidden dimensions out of the model without these layers; all linear layers are fitted then.

        Raises:
            ConfigError: If there are too few triplets to hold any out.
            MeasurementError: If the model's blocks cannot be run one by one.
        """
        start = Start.without(self.parent, removed_layers)
        kept = [layer for layer in range(len(blocks(self.parent))) if layer not in removed_layers]
        last = _last_linear_layers(self.parent)
        # The kept blocks have the places, and so the names, of as many from the first.
        before_gaps = {
            last[place].name: _all_columns(last[layer])
            for place, layer in enumerate(kept)
            if layer + 1 in removed_layers
        }
        if narrow is not None:
            narrower, outputs = narrow(start.model)
            start = replace(start, model=narrower, outputs=outputs)
            fitted = [each for each in linear_layers(start.model) if each.layer is not None and each.reads_tokens]
            before_gaps = {each.name: _all_columns(each) for each in fitted}
        try:
            return reconstructed_copy(
                self.parent,
                start,
                before_gaps | dict(keep),
                self._fitted,
                self.recipe,
                prompts=self.calibration.prompts,
                ridge=self.recipe.ridge[0],
            )
        except UnsolvedError:
            return _pruned_copy(start.model, keep)

    @torch.no_grad()
    def layer_effects(
        self, judged: Mapping[str, Triplets], layers: Collection[int], removed: Collection[int] = ()
    ) -> _Effects:
        """Return the degradation without each of ``layers`` after its quick reconstruction, by kind of data.

        That of ``self([layer])`` on the triplets ``judged``, found on a single walk: what the blocks before a layer
        give is computed once for all layers, and what the layer gives is both what the block before it is fitted to
        and where the walk goes on. If others are ``removed`` already, the walk is through ``self(removed)``,
        and only the block before the layer is fitted again.

        Raises:
            MeasurementError: If a loss is not finite, or the model's blocks cannot be run one by one.
        """
        prompts, parent = self.calibration.prompts, self.parent
        references = {
            kind: ReferenceOutputs(parent, each, prompts=prompts, options=self.recipe) for kind, each in judged.items()
        }
        changes: dict[str, dict[int, tuple[float, float]]] = {kind: {} for kind in judged}
        influences: dict[str, list[float]] = {kind: [] for kind in judged}
        draft = self(removed) if removed else copy.deepcopy(parent)
        kept = [layer for layer in range(len(blocks(parent))) if layer not in removed]
        with evaluating(parent), evaluating(draft):
            whole = shared_streams(parent, self._fitted, self.recipe, prompts)
            own = [(share, stream.through(draft, kept)) for share, stream in whole]
            behind = [(share, stream.through(parent)) for share, stream in whole]
            held_out = {kind: block_stream(draft, each, self.recipe, prompts) for kind, each in judged.items()}
            for place, layer in enumerate(track(kept, "Trying the model without each layer")):
                for _, stream in whole:
                    stream.advance(layer - stream.next)
                here = [(share, stream.through(parent)) for share, stream in whole]
                if layer in layers:
                    with self._refitted(draft, place, kept, own, behind, whole) if place else nullcontext():
                        for kind, stream in held_out.items():
                            changes[kind][layer] = references[kind].compared(stream.embeddings(without=place))
                for kind, stream in held_out.items() if place else ():
                    influences[kind].append(_advanced(stream))
                own = own if removed else [(share, stream.through(draft)) for share, stream in here]
                for _, stream in own:
                    stream.advance(place - stream.next)
                behind = here
            for kind, stream in held_out.items():
                influences[kind].append(_advanced(stream))
        return {
            kind: {layer: finite_effect(layer, *changes[kind][layer], by_place[kept.index(layer)]) for layer in layers}
            for kind, by_place in influences.items()
        }

    @contextmanager
    def _refitted(
        self,
        draft: SentenceTransformer,
        place: int,
        kept: Sequence[int],
        own: _Streams,
        behind: _Streams,
        whole: _Streams,
    ) -> Iterator[None]:
        """Fit the last linear layer of the block before ``place`` for a while, as if there were no block there.

        To the block before it the texts have come in the draft (``own``) and in the parent (``behind``). In the parent
        they have also come to the block at ``place`` (``whole``) and go on through it, if that is what is compared.
        """
        linear, block = _last_linear_layers(draft)[place - 1], blocks(draft)[place - 1]
        before = copy.deepcopy(block.state_dict())
        left = [layer for layer in kept if layer != kept[place]]
        moments = []
        for (share, stream), (_, earlier), (_, parents) in zip(own, behind, whole, strict=True):
            pair = PairedBlockStream(stream, parents, left)
            if not pair.looks_behind(linear):
                pair = PairedBlockStream(stream, earlier, left)
            pair.copy_final_norm()
            moments.append((share, pair.moments([linear])))
        try:
            fit(linear, mixed(moments)[linear.name], _all_columns(linear), self.recipe.ridge[0])
        except UnsolvedError:
            block.load_state_dict(before)
        yield
        block.load_state_dict(before)


def _last_linear_layers(model: SentenceTransformer) -> dict[int | None, LinearLayer]:
    """Return the linear layer of each block that writes to the residual stream last: that of the FFN, if it is known.

    Some families define the FFN before attention.
    """
    writers = [linear for linear in linear_layers(model) if linear.writes_residual and linear.kind in KINDS]
    return {linear.layer: linear for linear in sorted(writers, key=lambda each: KINDS.index(each.kind))}


def _all_columns(linear: LinearLayer) -> Tensor:
    return torch.ones(linear.module.in_features, dtype=torch.bool)


def _advanced(stream: BlockStream) -> float:
    """Go on by a block, and return its influence: how far it turns the states of real tokens."""
    before = stream.hidden
    stream.advance()
    turned = [
        1 - functional.cosine_similarity(one[mask].float(), other[mask].float(), dim=-1)
        for one, other, mask in zip(before, stream.hidden, stream.masks, strict=True)
    ]
    return float(torch.cat(turned).mean())


@torch.no_grad()
def _pruned_copy(model: SentenceTransformer, keep: Mapping[str, Tensor]) -> SentenceTransformer:
    child = copy.deepcopy(model)
    for linear in linear_layers(child):
        if linear.name in keep:
            linear.module.weight *= keep[linear.name].to(linear.module.weight)
    return child
