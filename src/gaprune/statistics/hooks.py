"""Hooks on linear layers that turn one ordinary backward into per-triplet gradients.

Weights stay frozen, so autograd forms no weight gradient of its own: the only weight-sized work is that of the
accumulators, which get the inputs ``a`` ``(tokens, in)`` and the output gradients ``d`` ``(tokens, out)``.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gaprune.errors import MeasurementError
from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.accumulators import BACKWARD, GramCache, TripletActivations, accumulators_of
from gaprune.statistics.sums import LinearStatistics, Statistic
from gaprune.statistics.token_rows import TokenRows

__all__ = ["HookContext", "LinearHook"]


@dataclass(eq=False)
class _Call:
    """One call of a layer: a shared layer, and texts that run in several forward passes, make several."""

    texts: TokenRows
    inputs: Tensor
    output_gradients: Tensor | None = None
    input_gradients: Tensor | None = None

    @property
    def owners(self) -> Tensor:
        return self.texts.row_owners(self.inputs)


class _Ordered:
    """The last inputs in the order of their triplets, because query, key and value (gate and up) read the same."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._rows: Tensor | None = None

    def rows(self, calls: list[_Call], order: Tensor | None) -> Tensor:
        seen = [call.inputs for call in calls]
        same = len(seen) == len(self._seen) and all(map(operator.is_, seen, self._seen))
        if self._rows is None or not same:
            self._seen, self._rows = seen, _ordered([call.texts.rows(call.inputs) for call in calls], order)
        return self._rows

    def clear(self) -> None:
        self._seen, self._rows = [], None


def _ordered(parts: list[Tensor], order: Tensor | None) -> Tensor:
    rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    return (rows if order is None else rows.index_select(0, order)).float()


@dataclass(eq=False)
class HookContext:
    """What all taps of a pass share: the texts that run now, and what neighbours can use again.

    Args:
        texts: The texts of the forward pass under way; ``None`` while nothing is measured.
        again: Whether a forward pass is run once more only because its activations were not kept.
    """

    texts: TokenRows | None = None
    again: bool = False
    grams: GramCache = field(default_factory=GramCache)
    ordered: _Ordered = field(default_factory=_Ordered)

    def clear(self) -> None:
        """Let go of everything that is kept for neighbours."""
        self.grams.clear()
        self.ordered.clear()


class LinearHook:
    """Accumulates the signals of one matrix from forward and backward hooks.

    Args:
        matrix: The matrix.
        quantities: What to measure.
        signals: What has been measured before, with all sums that are added to.
        batch_fisher: Whether Fisher squares whole mean-loss batch gradients instead of per-triplet ones.
        watch: Shared by all taps of a pass.
    """

    def __init__(
        self,
        matrix: LinearLayer,
        quantities: Collection[Statistic],
        statistics: LinearStatistics,
        *,
        batch_fisher: bool,
        watch: HookContext,
    ) -> None:
        self.matrix = matrix
        self.statistics = statistics
        self._batch_fisher = batch_fisher
        self._watch = watch
        self._parts = accumulators_of(matrix, quantities, statistics.sums(), batch_fisher=batch_fisher)
        self._reads_forward = bool(set(quantities) - BACKWARD)
        self._reads_input_gradients = any(part.reads_input_gradients for part in self._parts)
        self._calls: list[_Call] = []
        self._expected = 0

    def forward(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook: add what the inputs say, and wait for the gradients."""
        texts = self._watch.texts
        if texts is None:
            return
        inputs = args[0]  # as it is, so that layers that read the same tensor can tell
        if not self._watch.again:
            texts.check(inputs, self.matrix.name)
            self._expected += 1
            self.statistics.tokens += texts.count(inputs)
            if self._reads_forward:
                rows = texts.rows(inputs.detach()).float()
                for part in self._parts:
                    part.forward(inputs, rows, self._watch.grams)
        if output.requires_grad:
            call = _Call(texts, inputs)
            self._calls.append(call)
            if self._reads_input_gradients:
                inputs.register_hook(  # type: ignore[no-untyped-call]
                    lambda gradient: self._input_gradients(call, texts.rows(gradient))
                )
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._output_gradients(call, texts.rows(gradient))
            )

    def _input_gradients(self, call: _Call, gradients: Tensor) -> None:
        call.input_gradients = gradients
        self._finish()

    def _output_gradients(self, call: _Call, gradients: Tensor) -> None:
        if not torch.isfinite(gradients.sum(dtype=torch.float32)):
            raise MeasurementError(
                f"{self.matrix.name}: the gradient is not finite.",
                "Load the model in float32 or bfloat16 (--dtype), and check the texts of the batch named.",
            )
        call.output_gradients = gradients
        self._finish()

    def forget(self) -> None:
        """Let go of what was kept of whole triplets, so that the next ones begin."""
        self._calls.clear()
        self._expected = 0

    def _finish(self) -> None:
        """Add up the triplets once every call has had all its gradients."""
        calls = self._calls
        deltas = [call.output_gradients for call in calls if call.output_gradients is not None]
        waits = self._reads_input_gradients and any(call.input_gradients is None for call in calls)
        if len(deltas) < self._expected or waits:
            return
        owners = torch.cat([call.owners for call in calls])
        count = calls[0].texts.triplets
        order = None if bool((owners[1:] >= owners[:-1]).all()) else owners.argsort(stable=True)
        measured = TripletActivations(
            self._watch.ordered.rows(calls, order),
            _ordered(deltas, order),
            _ordered([call.input_gradients for call in calls if call.input_gradients is not None], order)
            if self._reads_input_gradients
            else None,
            owners.bincount(minlength=count).tolist(),
        )
        for part in self._parts:
            part.backward(measured)
        self.statistics.samples += 1 if self._batch_fisher else count
        self.statistics.triplets += count
        self.forget()
