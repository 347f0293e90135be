"""What a model loses when one of its layers is skipped: measured, not estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplets
from gaprune.errors import MeasurementError
from gaprune.models.blocks import blocks
from gaprune.models.encode import encode
from gaprune.models.prompts import Prompts
from gaprune.statistics.losses import info_nce
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PRESERVATION", "LayerEffect", "ReferenceOutputs", "layer_effects", "skipping"]

PRESERVATION = 5.0
"""Weight of the distance of embeddings beside the increase of the loss, wherever harm to a model is judged.

The loss of some dozens of triplets alone is noisy: it can fall where embeddings are far from where they were.
"""


@dataclass(frozen=True)
class LayerEffect:
    """What a model suffers without one layer, and without others that are gone already.

    Args:
        layer: Index of the block.
        loss: Increase of the mean InfoNCE loss.
        distance: Mean of one minus the cosine between a text's embeddings by the whole model and without the layers.
        influence: Mean of one minus the cosine between a token's state before and after the layer in the whole model
            (Men et al. 2024, ShortGPT, arXiv 2403.03853).
    """

    layer: int
    loss: float
    distance: float
    block_influence: float


class ReferenceOutputs:
    """What a model gives as it is, to hold against what it gives with parts of it switched off, or another model.

    Args:
        model: The model.
        triplets: What the loss is taken on, all passages being candidates.
        prompts: Put before queries and passages.
        options: Temperature and kind of negatives.

    ``loss`` is its mean InfoNCE loss.
    """

    def __init__(
        self, model: SentenceTransformer, triplets: Triplets, *, prompts: Prompts, options: MeasurementOptions
    ) -> None:
        self._model, self._triplets, self._prompts, self._options = model, triplets, prompts, options
        self._embeddings = _embed(model, triplets, prompts)
        self.loss = float(_loss(self._embeddings, triplets, options))

    def degradation(self, model: SentenceTransformer | None = None, *, preservation: float = PRESERVATION) -> float:
        """Return the increase of the loss + ``preservation`` times the distance of embeddings, of :meth:`changed`."""
        loss, distance = self.changed(model)
        return loss + preservation * distance

    def changed(self, model: SentenceTransformer | None = None) -> tuple[float, float]:
        """Return what another model, or this one as it is now, suffers: increase of the loss, distance of embeddings.

        The distance is the mean of one minus the cosine between a text's embeddings then and now.
        """
        now = _embed(model or self._model, self._triplets, self._prompts)
        cosines = torch.cat([functional.cosine_similarity(*pair) for pair in zip(self._embeddings, now, strict=True)])
        return float(_loss(now, self._triplets, self._options)) - self.loss, float((1 - cosines).mean())


def layer_effects(
    model: SentenceTransformer,
    triplets: Mapping[str, Triplets],
    *,
    layers: Collection[int],
    prompts: Prompts,
    options: MeasurementOptions,
    skipped: Collection[int] = (),
    without: Callable[[Collection[int]], SentenceTransformer] | None = None,
) -> dict[str, dict[int, LayerEffect]]:
    """Return what the model suffers without each of ``layers`` and without those already ``skipped``.

    Args:
        model: The model; it is left as it is.
        triplets: What the loss is taken on by kind of data, all passages being candidates.
        layers: Indices of blocks to try.
        prompts: Put before queries and passages.
        options: Temperature and kind of negatives.
        skipped: Indices of blocks that are gone throughout.
        without: Gives the model without these blocks; by default they are skipped, and nothing makes up for them.

    Returns:
        By kind of data, the effect by layer.

    Raises:
        SignalError: If the loss without a layer is not finite.
    """
    wholes = {kind: ReferenceOutputs(model, each, prompts=prompts, options=options) for kind, each in triplets.items()}
    block_influences = {kind: _influences(model, whole, skipped) for kind, whole in wholes.items()}
    effects: dict[str, dict[int, LayerEffect]] = {kind: {} for kind in triplets}
    for layer in track(sorted(layers), "Leaving layers out"):
        gone = {*skipped, layer}
        other = without(gone) if without else None
        with skipping(model, () if other else gone):
            for kind, whole in wholes.items():
                loss, distance = whole.changed(other)
                if not math.isfinite(loss):
                    raise MeasurementError(
                        f"layer {layer}: the loss without it is not finite.",
                        "Load the model in float32 or bfloat16 (--set dtype=float32).",
                    )
                effects[kind][layer] = LayerEffect(
                    layer, loss, distance, block_influence=block_influences[kind][layer]
                )
    return effects


def _influences(model: SentenceTransformer, whole: ReferenceOutputs, skipped: Collection[int]) -> list[float]:
    """Return how far every block turns the states of tokens, beside those that are skipped."""
    found = blocks(model)
    block_influences = [_Influence() for _ in found]
    with ExitStack() as stack:
        for block, block_influence in zip(found, block_influences, strict=True):
            stack.callback(block.register_forward_hook(block_influence, with_kwargs=True).remove)
        stack.enter_context(skipping(model, skipped))
        whole.changed()
    return [block_influence.mean for block_influence in block_influences]


@contextmanager
def skipping(model: SentenceTransformer, layers: Collection[int]) -> Iterator[None]:
    """Let these blocks give what they were given."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    found = blocks(model)
    handles = [found[layer].register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Influence:
    """Forward hook that adds up how far a block turns the states of tokens, padding included."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        cosines = functional.cosine_similarity(before.float(), after.float(), dim=-1)
        self._total += float((1 - cosines).sum())
        self._count += cosines.numel()

    @property
    def mean(self) -> float:
        return self._total / self._count


def _embed(model: SentenceTransformer, triplets: Triplets, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Return the embeddings of queries and of all passages, ``(texts, dim)`` each."""
    queries, passages = [item.query for item in triplets], [text for item in triplets for text in item.passages]
    return (
        encode(model, queries, "query", prompts, as_tensor=True),
        encode(model, passages, "passage", prompts, as_tensor=True),
    )


def _loss(embeddings: tuple[Tensor, Tensor], triplets: Triplets, options: MeasurementOptions) -> Tensor:
    queries, passages = embeddings
    owners = torch.tensor([index for index, item in enumerate(triplets) for _ in item.passages], device=queries.device)
    losses = info_nce(
        queries, passages, owners, temperature=options.temperature, in_batch=options.negatives == "in-batch"
    )
    return losses.mean()
