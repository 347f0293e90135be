"""Hooks on linear layers that turn one ordinary backward pass into per-triplet gradients.

Weights stay frozen, so autograd forms no weight gradient of its own: the only weight-sized work is that of the
accumulators, which get the inputs ``a`` ``(tokens, in)`` and the output gradients ``d`` ``(tokens, out)``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gaprune.errors import MeasurementError
from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.accumulators import BACKWARD, TripletActivations, add_gradients, add_inputs
from gaprune.statistics.sums import LinearStatistics, Statistic
from gaprune.util.products import gram


class TokenRows:
    """Which rows of an activation are real tokens, and of which triplet, in one forward pass."""

    def __init__(self, mask: Tensor, owners: Tensor, triplets: int) -> None:
        self.shape = mask.shape
        self.owners = owners
        self.triplets = triplets
        self._real = mask.flatten().nonzero().squeeze(1)
        self._token_owners = owners.repeat_interleave(mask.sum(1))

    def check(self, values: Tensor, layer: str) -> None:
        """Check that ``values`` has a row for every token, in two dimensions or flattened, or for every text.

        Raises:
            MeasurementError: If it has neither.
        """
        if values.shape[:-1] not in (self.shape, self.owners.shape, (self.shape.numel(),)):
            raise MeasurementError(
                f"{layer}: its input has shape {tuple(values.shape)} for texts of shape {tuple(self.shape)}.",
                f"Linear layers must see (texts, tokens, features). Leave this one out (--set ignore={layer}).",
            )

    def rows(self, values: Tensor) -> Tensor:
        """Return the rows of real tokens ``(real tokens, features)``, or of texts if ``values`` has one per text."""
        if self._of_texts(values):
            return values
        flat = values.flatten(0, -2)
        return flat if len(self._real) == len(flat) else flat.index_select(0, self._real)

    def row_owners(self, values: Tensor) -> Tensor:
        """Return the triplet of each of :meth:`rows`."""
        return self.owners if self._of_texts(values) else self._token_owners

    def _of_texts(self, values: Tensor) -> bool:
        return values.ndim == 2 and len(values) == len(self.owners)


@dataclass(eq=False)
class _Call:
    """One call of a layer: a shared layer, and texts that run in several forward passes, make several."""

    texts: TokenRows
    inputs: Tensor
    output_gradients: Tensor | None = None
    input_gradients: Tensor | None = None


class HookContext:
    """What all hooks of a pass share: the texts that run now, and the last Gram matrix.

    Query, key and value (gate and up) read the same tensor, so that one product serves all of them.
    """

    def __init__(self, products: torch.dtype = torch.float32) -> None:
        self.products = products
        """The dtype to which inputs are rounded for a Gram matrix."""
        self.texts: TokenRows | None = None
        """The texts of the forward pass under way; ``None`` while nothing is measured."""
        self.again = False
        """Whether a forward pass only runs once more because its activations were not kept."""
        self._gram: tuple[Tensor, Tensor | None, Tensor] | None = None

    def gram(self, inputs: Tensor, shift: Tensor | None, rows: Tensor) -> Tensor:
        """Return ``rowsᵀ rows`` of the rows of ``inputs`` less ``shift``."""
        if self._gram is None or self._gram[0] is not inputs or not _equal(self._gram[1], shift):
            self._gram = inputs, shift, gram(rows, self.products)
        return self._gram[2]

    def clear(self) -> None:
        """Forget the last Gram matrix."""
        self._gram = None


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)


def _ordered(parts: list[Tensor], order: Tensor | None) -> Tensor:
    rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    return (rows if order is None else rows.index_select(0, order)).float()


class LinearHook:
    """Adds up the statistics of one linear layer from forward and backward hooks."""

    def __init__(
        self,
        linear: LinearLayer,
        wanted: Collection[Statistic],
        statistics: LinearStatistics,
        *,
        batch_fisher: bool,
        context: HookContext,
    ) -> None:
        self.linear = linear
        self.statistics = statistics
        self._sums = statistics.sums()
        self._batch_fisher = batch_fisher
        self._context = context
        self._reads_inputs = bool(set(wanted) - BACKWARD)
        self._reads_input_gradients = "gate" in wanted
        self._calls: list[_Call] = []
        self._expected = 0

    def forward(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Forward hook: add the inputs, and wait for the gradients."""
        texts = self._context.texts
        if texts is None:
            return
        inputs = args[0]
        if not self._context.again:
            texts.check(inputs, self.linear.name)
            self._expected += 1
            if self._reads_inputs:
                self._add_inputs(inputs, texts.rows(inputs.detach()).float())
            self.statistics.tokens += len(texts.row_owners(inputs))
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

    def _add_inputs(self, inputs: Tensor, rows: Tensor) -> None:
        shift = self.statistics.input_shift
        if shift is not None:
            if self.statistics.tokens == 0:
                shift.copy_(rows.mean(0))
            rows = rows - shift
        add_inputs(self._sums, rows, lambda rows: self._context.gram(inputs, shift, rows))

    def _input_gradients(self, call: _Call, gradients: Tensor) -> None:
        call.input_gradients = gradients
        self._finish()

    def _output_gradients(self, call: _Call, gradients: Tensor) -> None:
        if not torch.isfinite(gradients.sum(dtype=torch.float32)):
            raise MeasurementError(
                f"{self.linear.name}: the gradient is not finite.",
                "Load the model in float32 or bfloat16 (--set dtype=float32), and check the texts of the batch named.",
            )
        call.output_gradients = gradients
        self._finish()

    def forget(self) -> None:
        """Forget the calls that were kept until their triplets are whole."""
        self._calls.clear()
        self._expected = 0

    def _finish(self) -> None:
        """Add up the triplets once every call has had all its gradients."""
        calls = self._calls
        output_gradients = [call.output_gradients for call in calls if call.output_gradients is not None]
        input_gradients = [call.input_gradients for call in calls if call.input_gradients is not None]
        waits = self._reads_input_gradients and len(input_gradients) < len(calls)
        if len(output_gradients) < self._expected or waits:
            return
        owners = torch.cat([call.texts.row_owners(call.inputs) for call in calls])
        count = calls[0].texts.triplets
        order = None if bool((owners[1:] >= owners[:-1]).all()) else owners.argsort(stable=True)
        activations = TripletActivations(
            inputs=_ordered([call.texts.rows(call.inputs) for call in calls], order),
            output_gradients=_ordered(output_gradients, order),
            input_gradients=_ordered(input_gradients, order) if self._reads_input_gradients else None,
            lengths=owners.bincount(minlength=count).tolist(),
        )
        add_gradients(self._sums, activations, unit=self.linear.columns_per_unit, batch_fisher=self._batch_fisher)
        self.statistics.samples += 1 if self._batch_fisher else count
        self.statistics.triplets += count
        self.forget()
