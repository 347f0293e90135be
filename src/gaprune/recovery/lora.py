"""Low-rank updates (LoRA) that are masked in training as in merging, so that merging changes no output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaprune.config.recovery import RecoveryOptions
from gaprune.models.linear_layers import LinearLayer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ALPHA = 2
"""An update is scaled by alpha over rank; alpha is this many times the rank, as is usual."""

_ADAPTER = "recovery"


@contextmanager
def low_rank(
    model: SentenceTransformer,
    layers: Sequence[LinearLayer],
    masks: Mapping[str, Tensor],
    options: RecoveryOptions,
) -> Iterator[None]:
    """Train low-rank updates of the linear layers of the blocks, and nothing else, and merge them at the end.

    A layer ``W`` with zeros at ``Z`` computes with ``W + (B A * alpha / rank)`` outside ``Z`` and with zero inside.

    Source:
        Hu et al., LoRA (arXiv 2106.09685); layers and merging by peft.
    """
    from peft import LoraConfig, LoraModel
    from peft.tuners.lora import Linear

    from gaprune.recovery.trainer import use_lora_layer

    chosen = [layer for layer in layers if layer.layer is not None]
    mask_of = {id(layer.module): masks.get(layer.name) for layer in chosen}

    class MaskedLora(Linear):
        """A LoRA layer whose update is zero at masked weights."""

        def get_delta_weight(self, adapter: str) -> Tensor:
            with torch.autocast(self.weight.device.type, enabled=False):  # else merging would differ from training
                delta: Tensor = super().get_delta_weight(adapter)
            mask = mask_of[id(self.base_layer)]
            return delta if mask is None else delta.masked_fill(mask.to(delta.device), 0)

        def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
            base = cast("nn.Linear", self.base_layer)
            return functional.linear(x, base.weight + self.get_delta_weight(_ADAPTER), base.bias)

    rank = options.lora or 1
    names = [layer.name for layer in chosen]
    config = LoraConfig(r=rank, lora_alpha=_ALPHA * rank, target_modules=names)
    use_lora_layer(config, MaskedLora)
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(requires_grad=False)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        adapted = LoraModel(model.transformers_model, config, _ADAPTER)
    try:
        yield
    finally:
        adapted.merge_and_unload()
        for parameter, was_required in required.items():
            parameter.requires_grad_(was_required)
