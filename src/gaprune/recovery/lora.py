"""Low-rank updates that never touch a zero: what is trained is what is merged, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gaprune.errors import MissingExtraError
from gaprune.models.linear_layers import LinearLayer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_lora", "low_rank"]

_ALPHA = 2
"""Scale of an update: alpha over rank, as is usual."""

_ADAPTER = "recovery"


def check_lora() -> None:
    """Check that peft is there.

    Raises:
        MissingExtraError: If it is not.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("LoRA", "lora") from error


@contextmanager
def low_rank(
    model: SentenceTransformer,
    linear_layers: Sequence[LinearLayer],
    zeros: Mapping[str, Tensor],
    *,
    rank: int,
    seed: int,
) -> Iterator[None]:
    """Train low-rank updates of the matrices of the blocks, and nothing else, and merge them at the end.

    A matrix ``W`` with zeros at ``Z`` computes with ``W + (B A * alpha / rank)`` outside ``Z`` and with zero inside,
    in training as afterwards: the mask is part of the function that is trained, and merging changes no output.

    Args:
        model: What is trained.
        linear_layers: All matrices of the model.
        zeros: Zeros that are held, ``(out, in)`` by name.
        rank: Rank of the updates.
        seed: Seed of their start.

    Source:
        Hu et al., LoRA (arXiv 2106.09685); layers and merging by peft.
    """
    from peft import LoraConfig, LoraModel
    from peft.tuners.lora import Linear

    class Masked(Linear):
        """A LoRA layer whose update leaves zeros alone."""

        held: Tensor | None = None

        def get_delta_weight(self, adapter: str) -> Tensor:
            with torch.autocast(self.weight.device.type, enabled=False):  # else merging would differ from training
                delta: Tensor = super().get_delta_weight(adapter)
            return delta if self.held is None else delta.masked_fill(self.held.to(delta.device), 0)

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            del args, kwargs
            base = cast("nn.Linear", self.base_layer)
            return functional.linear(x, base.weight + self.get_delta_weight(_ADAPTER), base.bias)

    chosen = [matrix for matrix in linear_layers if matrix.layer is not None]
    layers = {id(matrix.module): zeros.get(matrix.name) for matrix in chosen}
    config = LoraConfig(r=rank, lora_alpha=_ALPHA * rank, target_modules=[matrix.name for matrix in chosen])
    config._register_custom_module({nn.Linear: Masked})  # noqa: SLF001 (peft's way to give a layer of one's own)
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(requires_grad=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = LoraModel(model.transformers_model, config, _ADAPTER)
    for module in adapted.modules():
        if isinstance(module, Masked):
            module.held = layers[id(module.base_layer)]
    try:
        yield
    finally:
        adapted.merge_and_unload()
        for parameter, was_required in required.items():
            parameter.requires_grad_(was_required)
