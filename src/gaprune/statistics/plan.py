"""How a measurement is cut to fit the memory there is: known before it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.config.measurement import MeasurementOptions
from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import LinearLayer
from gaprune.statistics.accumulators import BACKWARD, shapes_of
from gaprune.statistics.batches import Batch
from gaprune.statistics.hooks import HookContext
from gaprune.statistics.passes import Embedder, Objective, frozen, gradients_from
from gaprune.statistics.placement import device_of, is_offloaded, is_sharded
from gaprune.statistics.sums import Statistic
from gaprune.util.distributed import all_reduce_min, world_size
from gaprune.util.memory import free_bytes, show_bytes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts, Role

__all__ = ["Plan", "plan_for"]

_MARGIN = 0.85
"""Part of the free memory that is used where no budget is named."""

_WORKING = 128 * 10**6
"""Bytes for what is small: tiles, embeddings, rows of one matrix."""

_CAPS = 1.25
"""Ratio of the numbers of tokens at a time that are considered."""

_REUSED = 6
"""Tensors as large as a linear layer's input and output that are kept for it and its neighbours, at most."""


@dataclass(frozen=True)
class Plan:
    """What a measurement will do, in how much memory and time.

    Args:
        label: Name of the data.
        batches: Those of all processes together.
        passes: Names of the matrices that each pass measures.
        at_once: Tokens whose activations are kept at a time; of a longer triplet, all.
        in_batch: Whether the loss is over a whole batch, so that a batch of more tokens is embedded beforehand.
        rerun: Whether blocks run once more in the backward, so that their activations need not be kept.
        backward: Whether there is a backward at all.
        sizes: Bytes of the sums of each matrix.
        activation_bytes: Activations at most, as estimated.
        budget_bytes: What both may take beside the model.
        processes: Number of processes that share the batches.
        seconds: Estimated time of all passes, from the floating-point operations and the speed of a product here.
    """

    label: str
    batches: Sequence[Batch]
    passes: tuple[tuple[str, ...], ...]
    at_once: int
    in_batch: bool
    rerun: bool
    backward: bool
    sizes: Mapping[str, int]
    activation_bytes: int
    budget_bytes: int
    processes: int
    seconds: float

    def __str__(self) -> str:
        often = "1 pass" if len(self.passes) == 1 else f"{len(self.passes)} passes"
        batches = "1 batch" if len(self.batches) == 1 else f"{len(self.batches):,} batches"
        shared = f" in {self.processes} processes" if self.processes > 1 else ""
        twice = f"; {self.recomputed:.0%} of them are computed twice to save memory" if self.recomputed else ""
        return (
            f"Measuring {self.label}: {self.triplets:,} triplets ({self.tokens:,} tokens) in {batches}, "
            f"{often} over {sum(map(len, self.passes))} matrices{shared}. {show_bytes(self.sums_bytes)} of "
            f"sums and up to {show_bytes(self.activation_bytes)} of activations at a time, of "
            f"{show_bytes(self.budget_bytes)}{twice}. About {_duration(self.seconds)}."
        )

    @property
    def triplets(self) -> int:
        """Number of triplets."""
        return sum(len(batch.triplets) for batch in self.batches)

    @property
    def tokens(self) -> int:
        """Real tokens that one pass reads, in all processes together."""
        return sum(batch.tokens for batch in self.batches)

    @property
    def sums_bytes(self) -> int:
        """Bytes of the sums of the largest pass."""
        return max(sum(self.sizes[name] for name in names) for names in self.passes)

    @property
    def recomputed(self) -> float:
        """Part of the activations that is computed twice, from 0 to 1."""
        if not self.backward:
            return 0.0
        return 1.0 if self.rerun else _embedded_before(self.batches, self.at_once) * self.in_batch

    @property
    def needed_bytes(self) -> int:
        """What it takes beside the model."""
        return self.sums_bytes + self.activation_bytes + _WORKING

    @property
    def shape(self) -> dict[str, Any]:
        """What decides how sums are rounded, and what it takes: the same shape gives the same bits."""
        return {
            "passes": [list(names) for names in self.passes],
            "at_once": self.at_once,
            "rerun": self.rerun,
            "activation_bytes": self.activation_bytes,
        }

    def reshaped(self, shape: Mapping[str, Any]) -> Plan:
        """Return this plan with another :attr:`shape`."""
        return replace(self, **dict(shape) | {"passes": tuple(map(tuple, shape["passes"]))})


def plan_for(
    model: SentenceTransformer,
    batches: Sequence[Batch],
    linear_layers: Sequence[LinearLayer],
    *,
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
    label: str,
) -> Plan:
    """Return the cheapest way to measure that fits the memory budget.

    Raises:
        ConfigError: If none does.
    """
    backward = bool(BACKWARD & set(quantities))
    in_batch = Objective.of(quantities, options).over_batch
    budget = all_reduce_min(_budget(model, linear_layers, options))
    sizes = {matrix.name: _sum_bytes(matrix, quantities) for matrix in linear_layers}
    whole = max(batch.tokens for batch in batches)
    caps = [whole]
    if options.fisher == "triplet" and not is_sharded(model):
        longest = max(batch.longest for batch in batches)
        steps = math.ceil(math.log(whole / longest, _CAPS))
        caps += [max(longest, int(whole / _CAPS**step)) for step in range(1, steps + 1)]
    ways = _ways(model, batches, linear_layers, caps, prompts, options, backward=backward, in_batch=in_batch)
    found = []
    for at_once, rerun, activations, cost in ways:
        groups = _groups(sizes, budget - activations - _WORKING)
        if groups is not None:
            found.append((cost * len(groups), -at_once, rerun, activations, groups))
    if not found:
        need = min(activations for _, _, activations, _ in ways) + _WORKING + max(sizes.values())
        raise ConfigError(
            f"memory_budget: {show_bytes(budget)} are too little: at least {show_bytes(need)} are "
            f"needed for the longest triplet and the largest matrix of {label}.",
            "Raise --memory-budget, cut texts with --max-length, or select fewer quantities or layers.",
        )
    cost, at_once, rerun, activations, groups = min(found, key=lambda way: way[:3])
    tokens = sum(batch.tokens for batch in batches)
    return Plan(
        label=label,
        batches=batches,
        passes=groups,
        at_once=-at_once,
        in_batch=in_batch,
        rerun=rerun,
        backward=backward,
        sizes=sizes,
        activation_bytes=activations,
        budget_bytes=budget,
        processes=world_size(),
        seconds=_seconds(model, linear_layers, tokens, cost - len(groups) * backward) / world_size(),
    )


def _ways(
    model: SentenceTransformer,
    batches: Sequence[Batch],
    linear_layers: Sequence[LinearLayer],
    caps: Sequence[int],
    prompts: Prompts,
    options: MeasurementOptions,
    *,
    backward: bool,
    in_batch: bool,
) -> list[tuple[int, bool, int, float]]:
    """Return tokens at once, whether blocks rerun, bytes of activations, and cost in forward passes of each way."""
    widest = max(matrix.module.in_features + matrix.module.out_features for matrix in linear_layers)
    rows = 8 * widest  # bytes of a token's rows of one matrix, put in order and made fp32
    if not backward:
        return [(cap, False, cap * rows * 2, 1.0) for cap in caps]
    bound, held, count = _bound(model), 0, len(blocks(model))
    again = {cap: _embedded_before(batches, cap) * in_batch for cap in caps}
    if is_offloaded(model):
        held = sum(_row_bytes(matrix.module) for matrix in linear_layers)
    elif is_sharded(model) or caps[0] * bound * 2 <= _budget(model, linear_layers, options):
        return [(caps[0], False, caps[0] * (bound + rows), 3.0)]
    else:
        bound, held = _probe(model, batches, linear_layers, prompts)
    kept = held + (bound - held) // count + _hidden(model) * count
    visiting = _visiting(model) if is_offloaded(model) else 0
    ways = [(cap, True, cap * (kept + rows) + visiting, 4 + again[cap]) for cap in caps]
    if not is_offloaded(model):
        ways += [(cap, False, cap * (bound + rows), 3 + again[cap]) for cap in caps]
    return ways


def _embedded_before(batches: Sequence[Batch], at_once: int) -> float:
    """Return the part of all tokens that is embedded before it is measured: all but the last part of each batch."""
    before = sum(part.tokens for batch in batches for part in batch.split(at_once)[:-1])
    return before / sum(batch.tokens for batch in batches)


def _bound(model: SentenceTransformer) -> int:
    """Return a generous bound of the bytes of activations that a token takes."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return _REUSED * sum(map(_row_bytes, layers))


def _row_bytes(layer: nn.Linear) -> int:
    """Return the bytes of a token's input and output."""
    return (layer.in_features + layer.out_features) * layer.weight.element_size()


def _visiting(model: SentenceTransformer) -> int:
    """Return the bytes of the weights that an offloaded model has on its device at a time."""
    table: nn.Module = transformer_of(model).get_input_embeddings()
    return max(
        sum(weight.numel() * weight.element_size() for weight in module.parameters())
        for module in [table, *blocks(model)]
    )


def _hidden(model: SentenceTransformer) -> int:
    """Return the bytes of one token between two blocks."""
    table: nn.Module = transformer_of(model).get_input_embeddings()
    weight = next(table.parameters())
    return int(weight.shape[-1]) * weight.element_size()


def _probe(
    model: SentenceTransformer, batches: Sequence[Batch], linear_layers: Sequence[LinearLayer], prompts: Prompts
) -> tuple[int, int]:
    """Return the bytes a token of the longest text takes: of all activations, and of those that taps hold."""
    embedder = Embedder(model, prompts, HookContext())
    length, role, text = max(_texts(batches))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}
    held: dict[int, int] = {}
    alive: list[torch.UntypedStorage] = []  # so that no address is used twice; tensors would keep the graph for ever

    def note(of: dict[int, int], tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            of[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)

    def tap(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        note(held, args[0])
        note(held, output)  # its gradient is as large

    with ExitStack() as stack:
        stack.enter_context(frozen(model, gradients=True))
        stack.enter_context(gradients_from(model, linear_layers))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(partial(note, saved), lambda nothing: nothing))
        for matrix in linear_layers:
            stack.callback(matrix.module.register_forward_hook(tap).remove)
        embedder.forward([text], role, None, 0)
    return math.ceil(sum((saved | held).values()) / length), math.ceil(sum(held.values()) / length)


def _texts(batches: Sequence[Batch]) -> Iterator[tuple[int, Role, str]]:
    """Yield length, role and text of everything that is read."""
    for batch in batches:
        for item, query, passages in zip(batch.triplets, batch.queries, batch.passages, strict=True):
            yield query, "query", item.query
            for length, text in zip(passages, item.passages, strict=True):
                yield length, "passage", text


def _groups(sizes: Mapping[str, int], room: int) -> tuple[tuple[str, ...], ...] | None:
    """Return the matrices in even groups of neighbours whose sums fit ``room``; ``None`` if one does not."""
    if max(sizes.values()) > room:
        return None
    even = sum(sizes.values()) / math.ceil(sum(sizes.values()) / room)
    groups: list[list[str]] = [[]]
    held = 0
    for name, each in sizes.items():
        if groups[-1] and (held + each > room or held + each / 2 > even):
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += each
    return tuple(map(tuple, groups))


def _sum_bytes(matrix: LinearLayer, quantities: Collection[Statistic]) -> int:
    return sum(4 * math.prod(shape) for shape in shapes_of(matrix, quantities).values())


def _budget(model: SentenceTransformer, linear_layers: Sequence[LinearLayer], options: MeasurementOptions) -> int:
    if options.memory_budget is not None:
        return options.memory_budget
    return int(_MARGIN * free_bytes(device_of(linear_layers[0].module) if linear_layers else model.device))


def _seconds(model: SentenceTransformer, linear_layers: Sequence[LinearLayer], tokens: int, forwards: float) -> float:
    """Return floating-point operations over the speed of a matrix product, timed here.

    Args:
        model: The model.
        linear_layers: Those whose weight gradients are formed.
        tokens: Real tokens.
        forwards: Forward passes, each backward to the activations counted as another.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    whole = sum(each.in_features * each.out_features for each in layers)
    formed = sum(each.module.in_features * each.module.out_features for each in linear_layers)
    device, dtype = device_of(linear_layers[0].module), linear_layers[0].module.weight.dtype
    left, right = (torch.ones(256, 1024, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        (left @ right.T)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    per_operation = best / (2 * 256 * 256 * 1024)
    return 2 * tokens * (whole * forwards + formed) * per_operation


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
