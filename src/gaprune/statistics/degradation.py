"""Degradation of a model without some of its layers, or of another model: measured on triplets, not estimated."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
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
from gaprune.models.encode import encode_tensor
from gaprune.models.modes import padded_inputs
from gaprune.models.prompts import Prompts
from gaprune.statistics.losses import info_nce
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PRESERVATION = 5.0
"""Weight of the distance of embeddings beside the increase of the loss, wherever degradation is measured.

The loss of some dozens of triplets alone is noisy: it can fall although embeddings are far from where they were.
"""


@dataclass(frozen=True)
class LayerEffect:
    """Degradation without one layer, and without others that were removed before.

    Args:
        layer: Index of the block.
        loss: Increase of the mean InfoNCE loss.
        distance: Mean of one minus the cosine between a text's embeddings with and without the layers.
        block_influence: Mean over real tokens of one minus the cosine between a token's state before and after the
            layer (Men et al. 2024, ShortGPT, arXiv 2403.03853).
    """

    layer: int
    loss: float
    distance: float
    block_influence: float


class ReferenceOutputs:
    """The loss and embeddings of a model as it is, with which it is compared later, or with which another model is.

    ``loss`` is its mean InfoNCE loss, with all passages as candidates.
    """

    def __init__(
        self, model: SentenceTransformer, triplets: Triplets, *, prompts: Prompts, options: MeasurementOptions
    ) -> None:
        self._model, self._triplets, self._prompts, self._options = model, triplets, prompts, options
        self._embeddings = self._embed(model)
        self.loss = self._loss(self._embeddings)

    def degradation(self, model: SentenceTransformer | None = None, *, preservation: float = PRESERVATION) -> float:
        """Return the increase of the loss + ``preservation`` times the distance of embeddings, of :meth:`changed`."""
        loss, distance = self.changed(model)
        return loss + preservation * distance

    def changed(self, model: SentenceTransformer | None = None) -> tuple[float, float]:
        """Return the increase of the loss and the distance of embeddings of another model, or of this one now.

        The distance is the mean of one minus the cosine between a text's embeddings then and now.
        """
        return self.compared(self._embed(model or self._model))

    def compared(self, now: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Return the same of embeddings of queries and of all passages, ``(texts, dim)`` each."""
        cosines = torch.cat([functional.cosine_similarity(*pair) for pair in zip(self._embeddings, now, strict=True)])
        return self._loss(now) - self.loss, float((1 - cosines).mean())

    def _embed(self, model: SentenceTransformer) -> tuple[Tensor, Tensor]:
        """Return the embeddings of queries and of all passages, ``(texts, dim)`` each."""
        queries = [item.query for item in self._triplets]
        passages = [text for item in self._triplets for text in item.passages]
        precision = self._options.precision
        return (
            encode_tensor(model, queries, "query", self._prompts, precision=precision),
            encode_tensor(model, passages, "passage", self._prompts, precision=precision),
        )

    def _loss(self, embeddings: tuple[Tensor, Tensor]) -> float:
        queries, passages = embeddings
        owners = [index for index, item in enumerate(self._triplets) for _ in item.passages]
        losses = info_nce(
            queries,
            passages,
            torch.tensor(owners, device=queries.device),
            temperature=self._options.temperature,
            in_batch=self._options.negatives == "in-batch",
        )
        return float(losses.mean())


def layer_effects(
    model: SentenceTransformer,
    triplets: Mapping[str, Triplets],
    *,
    layers: Collection[int],
    prompts: Prompts,
    options: MeasurementOptions,
    skipped: Collection[int] = (),
) -> dict[str, dict[int, LayerEffect]]:
    """Return the degradation without each of ``layers`` and without those already ``skipped``.

    Args:
        model: The model; it is left as it is.
        triplets: Triplets for the loss by kind of data; all passages are candidates.
        layers: Indices of blocks to try.
        prompts: Put before queries and passages.
        options: Temperature and kind of negatives.
        skipped: Indices of blocks that are skipped throughout.

    Returns:
        By kind of data, the effect by layer.

    Raises:
        MeasurementError: If the loss without a layer is not finite.
    """
    references = {
        kind: ReferenceOutputs(model, each, prompts=prompts, options=options) for kind, each in triplets.items()
    }
    influences = {kind: _block_influences(model, reference, skipped) for kind, reference in references.items()}
    effects: dict[str, dict[int, LayerEffect]] = {kind: {} for kind in triplets}
    for layer in track(sorted(layers), "Trying the model without each layer"):
        with skipping(model, {*skipped, layer}):
            for kind, reference in references.items():
                effects[kind][layer] = finite_effect(layer, *reference.changed(), influences[kind][layer])
    return effects


def finite_effect(layer: int, loss: float, distance: float, block_influence: float) -> LayerEffect:
    """Return the effect of a layer's removal.

    Raises:
        MeasurementError: If the loss is not finite.
    """
    if not math.isfinite(loss):
        raise MeasurementError(
            f"layer {layer}: the loss without it is not finite.",
            "Load the model in float32 or bfloat16 (--set dtype=float32).",
        )
    return LayerEffect(layer, loss, distance, block_influence)


@contextmanager
def skipping(model: SentenceTransformer, layers: Collection[int]) -> Iterator[None]:
    """Let these blocks return their input."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    found = blocks(model)
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(found[layer].register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _block_influences(
    model: SentenceTransformer, reference: ReferenceOutputs, skipped: Collection[int]
) -> list[float]:
    """Return the influence of every block, without those that are skipped."""
    found = blocks(model)
    influences = [_BlockInfluence() for _ in found]

    def read_mask(_module: nn.Module, args: tuple[dict[str, Any], ...]) -> None:
        for influence in influences:
            influence.mask = args[0]["attention_mask"]

    with ExitStack() as stack:
        stack.enter_context(padded_inputs(model))
        # sentence-transformers calls the forward method of the transformer itself, which passes by hooks.
        stack.callback(model[0].register_forward_pre_hook(read_mask).remove)
        for block, influence in zip(found, influences, strict=True):
            stack.callback(block.register_forward_hook(influence, with_kwargs=True).remove)
        stack.enter_context(skipping(model, skipped))
        reference.changed()
    return [influence.mean for influence in influences]


class _BlockInfluence:
    """Forward hook that adds up how far a block turns the states of real tokens.

    ``mask`` is the attention mask of the batch, ``(texts, tokens)``.
    """

    def __init__(self) -> None:
        self.mask = torch.empty(0)
        self._total, self._count = 0.0, 0

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        cosines = functional.cosine_similarity(before.float(), after.float(), dim=-1)
        cosines = cosines[self.mask.to(cosines.device).bool()]
        self._total += float((1 - cosines).sum())
        self._count += cosines.numel()

    @property
    def mean(self) -> float:
        return self._total / self._count
