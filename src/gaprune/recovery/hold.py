"""Zeros that stay zeros: no gradient, no step, no memory of one in the optimiser.

This module imports the trainer of transformers: import it where a model is trained, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from gaprune.models.linear_layers import LinearLayer

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["HoldZeros"]


class HoldZeros(TrainerCallback):
    """Keeps weights at zero through training, bit by bit.

    Their gradients are cleared as they arise, so that they count neither in the clipping of gradients nor in what
    processes exchange; after every step the weights and all that the optimiser remembers of them are cleared too.

    Args:
        matrices: The matrices of the model that is trained.
        zeros: Where they are held, true for zeros, ``(out, in)`` by name.
    """

    def __init__(self, linear_layers: Sequence[LinearLayer], zeros: Mapping[str, Tensor]) -> None:
        modules: dict[str, nn.Linear] = {matrix.name: matrix.module for matrix in linear_layers}
        self.zeros = dict(zeros)
        self._weights = {name: modules[name].weight for name in zeros}
        self._handles: list[RemovableHandle] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start to hold: the model is on its device now."""
        del args, state, control, kwargs
        for name, weight in self._weights.items():
            zeros = self.zeros[name] = self.zeros[name].to(weight.device)
            if weight.requires_grad:
                self._handles.append(
                    weight.register_hook(  # type: ignore[no-untyped-call]
                        lambda gradient, zeros=zeros: gradient.masked_fill(zeros, 0)
                    )
                )

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clear weights and optimiser state after a step."""
        del args, state, control
        self.clear(kwargs["optimizer"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let the gradients go."""
        del args, state, control, kwargs
        self.release()

    @torch.no_grad()
    def clear(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the weights that are held, and every entry of the optimiser's state that belongs to one, to zero."""
        for name, weight in self._weights.items():
            zeros = self.zeros[name]
            weight.masked_fill_(zeros, 0)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == zeros.shape:
                    value.masked_fill_(zeros, 0)

    def release(self) -> None:
        """Remove the hooks on gradients."""
        while self._handles:
            self._handles.pop().remove()
