"""Hooks on linear layers that turn one ordinary backward into per-triplet gradients.

For inputs ``a`` ``(tokens, in)`` and output gradients ``d`` ``(tokens, out)`` the gradient of one triplet is ``dᵀ a``
summed over the tokens of its texts. Weights stay frozen, so autograd forms no weight gradient of its own: the only
weight-sized work is the one done here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gaprune.anatomy import Matrix
from gaprune.errors import SignalError
from gaprune.signals.sums import MatrixSignals, Quantity

__all__ = ["Tap", "Texts"]


@dataclass(frozen=True)
class Texts:
    """Which tokens of a forward pass are real, and how many belong to each triplet.

    Args:
        mask: True for real tokens, ``(texts, tokens)``; texts of one triplet are neighbours.
        owners: Triplet of each text, ``(texts,)``, ascending.
        triplets: Number of triplets in the batch.
    """

    mask: Tensor
    owners: Tensor
    triplets: int

    def rows(self, values: Tensor, layer: str) -> Tensor:
        """Return the rows of real tokens ``(real tokens, features)``, or of texts where ``values`` has one a text."""
        if values.ndim == 3 and values.shape[:2] == self.mask.shape:
            return values[self.mask]
        if values.ndim == 2 and len(values) == len(self.owners):
            return values
        raise SignalError(
            f"{layer}: its input has shape {tuple(values.shape)} for texts of shape {tuple(self.mask.shape)}.",
            "Layers must see (texts, tokens, features); load the model with padded inputs (no flash attention).",
        )

    def lengths(self, values: Tensor) -> list[int]:
        """Return how many of the rows of :meth:`rows` belong to each triplet."""
        per_text = self.mask.sum(1) if values.ndim == 3 else torch.ones_like(self.owners)
        totals = torch.zeros(self.triplets, dtype=torch.long, device=per_text.device)
        return totals.index_add_(0, self.owners, per_text.long()).tolist()


@dataclass
class _Call:
    """One call of a layer in the current batch: a shared layer, or queries and passages, make several."""

    inputs: Tensor
    lengths: list[int]
    output_gradients: Tensor | None = None
    gates: Tensor | None = None


class GramCache:
    """Keeps the last Gram product, because query, key and value (gate and up) read the same input."""

    def __init__(self) -> None:
        self._inputs: Tensor | None = None
        self._product: Tensor | None = None

    def product(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return ``rowsᵀ rows``, reused while ``inputs`` is the very same tensor as before."""
        if self._product is None or self._inputs is not inputs:
            self._inputs, self._product = inputs, rows.T @ rows
        return self._product


@dataclass
class Tap:
    """Accumulates the signals of one matrix from forward and backward hooks.

    Args:
        matrix: The matrix.
        quantities: What to measure.
        batch_fisher: Whether Fisher squares whole mean-loss batch gradients instead of per-triplet ones.
        grams: Cache shared by all taps of a pass.
    """

    matrix: Matrix
    quantities: Collection[Quantity]
    batch_fisher: bool
    grams: GramCache
    signals: MatrixSignals = field(init=False)
    texts: Texts | None = None
    _calls: list[_Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        weight = self.matrix.module.weight

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float32, device=weight.device)

        outputs, inputs = weight.shape
        self.signals = MatrixSignals(
            self.matrix.name,
            fisher_sum=zeros(outputs, inputs) if "fisher" in self.quantities else None,
            gradient_sum=zeros(outputs, inputs) if "gradient" in self.quantities else None,
            gram_sum=zeros(inputs, inputs) if "gram" in self.quantities else None,
            input_square_sum=zeros(inputs) if "input_square" in self.quantities else None,
            output_gram_sum=zeros(outputs, outputs) if "output_gram" in self.quantities else None,
            gate_sum=zeros(inputs // self.matrix.unit) if "gate" in self.quantities else None,
            gate_square_sum=zeros(inputs // self.matrix.unit) if "gate" in self.quantities else None,
        )

    def forward(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook: take the input's second moments and wait for the output's gradient."""
        if self.texts is None:
            return
        inputs = args[0].detach()
        rows = self.texts.rows(inputs, self.matrix.name).float()
        self.signals.tokens += len(rows)
        if self.signals.gram_sum is not None:
            self.signals.gram_sum += self.grams.product(args[0], rows)
        if self.signals.input_square_sum is not None:
            self.signals.input_square_sum += rows.square().sum(0)
        if output.requires_grad:
            call = _Call(rows, self.texts.lengths(inputs))
            self._calls.append(call)
            texts = self.texts
            if self.signals.gate_sum is not None:
                args[0].register_hook(  # type: ignore[no-untyped-call]
                    lambda gradient: self._gates(call, texts.rows(gradient, self.matrix.name))
                )
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._backward(call, texts.rows(gradient, self.matrix.name))
            )

    def _gates(self, call: _Call, gradients: Tensor) -> None:
        """Take the gate gradients ``(triplets, units)`` of a call; it comes after :meth:`_backward` of the call."""
        products = call.inputs * gradients.float()
        products = products.view(len(products), -1, self.matrix.unit).sum(2)
        call.gates = torch.stack([part.sum(0) for part in torch.split(products, call.lengths)])
        self._finish()

    def _backward(self, call: _Call, gradients: Tensor) -> None:
        gradients = gradients.float()
        if not torch.isfinite(gradients.sum()):
            raise SignalError(
                f"{self.matrix.name}: the gradient is not finite.",
                "Load the model in float32 or bfloat16 (--dtype), and check the texts of the batch named.",
            )
        call.output_gradients = gradients
        if self.signals.output_gram_sum is not None:
            self.signals.output_gram_sum.addmm_(gradients.T, gradients)
        self._finish()

    def _finish(self) -> None:
        """Add up the batch once every call has had all its gradients."""
        gates = self.signals.gate_sum is not None
        if all(c.output_gradients is not None and (c.gates is not None or not gates) for c in self._calls):
            self._accumulate()
            self._calls.clear()

    def _accumulate(self) -> None:
        """Add what is known of each triplet, now that all its texts have been seen."""
        gates = [call.gates for call in self._calls if call.gates is not None]
        if self.signals.gate_sum is not None and self.signals.gate_square_sum is not None:
            of_triplets = torch.stack(gates).sum(0)
            self.signals.gate_sum += of_triplets.sum(0)
            self.signals.gate_square_sum += of_triplets.square().sum(0)
        if self.signals.fisher_sum is None and self.signals.gradient_sum is None:
            self.signals.triplets += len(self._calls[0].lengths)
        else:
            self._accumulate_weights()

    def _accumulate_weights(self) -> None:
        """Form each triplet's gradient and add it and its square."""
        parts = [
            (torch.split(call.output_gradients, call.lengths), torch.split(call.inputs, call.lengths))
            for call in self._calls
            if call.output_gradients is not None
        ]
        signals, triplets = self.signals, len(parts[0][0])
        total = torch.zeros_like(self.matrix.module.weight, dtype=torch.float32)
        gradient = torch.empty_like(total)
        needs_total = self.batch_fisher or signals.gradient_sum is not None
        for index in range(triplets):
            torch.mm(parts[0][0][index].T, parts[0][1][index], out=gradient)
            for deltas, inputs in parts[1:]:
                gradient.addmm_(deltas[index].T, inputs[index])
            if signals.fisher_sum is not None and not self.batch_fisher:
                signals.fisher_sum.addcmul_(gradient, gradient)
            if needs_total:
                total += gradient
        if signals.fisher_sum is not None and self.batch_fisher:
            signals.fisher_sum += (total / triplets).square_()
        if signals.gradient_sum is not None:
            signals.gradient_sum += total
        signals.samples += 1 if self.batch_fisher else triplets
        signals.triplets += triplets
