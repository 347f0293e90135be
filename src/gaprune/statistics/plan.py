"""How a measurement is cut to fit the memory there is: known before it starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.statistics.accumulators import shapes_of
from gaprune.statistics.forward import Embedder
from gaprune.statistics.gradients import frozen, gradients_from
from gaprune.statistics.hooks import HookContext
from gaprune.statistics.measurement import Measurement
from gaprune.statistics.placement import device_of, is_offloaded, is_sharded
from gaprune.util.distributed import all_reduce_min, world_size
from gaprune.util.memory import free_bytes, show_bytes

_MARGIN = 0.85
"""Part of the free memory that is used if no budget is named."""

_WORKING = 128 * 10**6
"""Bytes for what is small: tiles, embeddings, rows of one linear layer."""

_CAPS = 1.25
"""Ratio of the numbers of tokens at a time that are considered."""

_REUSED = 6
"""Tensors as large as a linear layer's input and output that are kept for it and its neighbours, at most."""


class Way(NamedTuple):
    """One way to run a pass.

    Args:
        at_once: Tokens whose activations are kept at a time; of a longer triplet, all.
        rerun: Whether blocks run once more in the backward, so that their activations need not be kept.
        activation_bytes: Estimate of the most bytes of activations.
        cost: Cost of a pass in forward passes.
    """

    at_once: int
    rerun: bool
    activation_bytes: int
    cost: float


@dataclass(frozen=True)
class Plan:
    """What a measurement will do, in how much memory.

    Args:
        measurement: What is measured.
        passes: Names of the linear layers that each pass measures.
        way: How a pass is run.
        sizes: Bytes of the sums of each linear layer.
        budget_bytes: What sums and activations may take beside the model.
    """

    measurement: Measurement
    passes: tuple[tuple[str, ...], ...]
    way: Way
    sizes: Mapping[str, int]
    budget_bytes: int

    def __str__(self) -> str:
        batches = self.measurement.batches
        triplets, tokens = sum(len(batch.triplets) for batch in batches), sum(batch.tokens for batch in batches)
        shared = f" in {world_size()} processes" if world_size() > 1 else ""
        twice = (
            f"; {self.recomputed:.0%} of the forward pass is computed twice to save memory" if self.recomputed else ""
        )
        return (
            f"Measuring {self.measurement.label}: {triplets:,} triplets ({tokens:,} tokens) in "
            f"{_counted(batches, 'batch', 'batches')}, {_counted(self.passes, 'pass', 'passes')} over "
            f"{sum(map(len, self.passes))} linear layers{shared}. It takes up to {show_bytes(self.needed_bytes)} of "
            f"memory beside the model, of {show_bytes(self.budget_bytes)} that it may take{twice}."
        )

    @property
    def sums_bytes(self) -> int:
        """Bytes of the sums of the largest pass."""
        return max(sum(self.sizes[name] for name in names) for names in self.passes)

    @property
    def needed_bytes(self) -> int:
        """Bytes that the measurement takes beside the model."""
        return self.sums_bytes + self.way.activation_bytes + _WORKING

    @property
    def recomputed(self) -> float:
        """Part of the activations that is computed twice, from 0 to 1."""
        if not self.measurement.backward:
            return 0.0
        return 1.0 if self.way.rerun else _embedded_before(self.measurement, self.way.at_once)

    @property
    def shape(self) -> dict[str, Any]:
        """What decides how sums are rounded, and what it takes: the same shape gives the same bits."""
        return {"passes": [list(names) for names in self.passes], "way": list(self.way)}

    def reshaped(self, shape: Mapping[str, Any]) -> Plan:
        """Return this plan with another :attr:`shape`."""
        return replace(self, passes=tuple(map(tuple, shape["passes"])), way=Way(*shape["way"]))


def plan_for(measurement: Measurement) -> Plan:
    """Return the cheapest way to measure that fits the memory budget.

    Raises:
        ConfigError: If none does.
    """
    budget = all_reduce_min(_budget(measurement))
    sizes = {
        linear.name: sum(4 * math.prod(shape) for shape in shapes_of(linear, measurement.statistics).values())
        for linear in measurement.linear_layers
    }
    ways = _ways(measurement, budget)
    found = [(way, _groups(sizes, budget - way.activation_bytes - _WORKING)) for way in ways]
    fitting = [(way, groups) for way, groups in found if groups is not None]
    if not fitting:
        need = min(way.activation_bytes for way in ways) + _WORKING + max(sizes.values())
        raise ConfigError(
            f"memory_budget: {show_bytes(budget)} are too little: at least {show_bytes(need)} are "
            f"needed for the longest triplet and the largest linear layer of {measurement.label}.",
            "Raise memory_budget, truncate texts (--set max_length=128), or select fewer layers.",
        )
    way, groups = min(fitting, key=lambda each: (each[0].cost * len(each[1]), -each[0].at_once, each[0].rerun))
    return Plan(measurement, passes=groups, way=way, sizes=sizes, budget_bytes=budget)


def _ways(measurement: Measurement, budget: int) -> list[Way]:
    """Return the ways to run a pass: many tokens at a time or few, blocks run once or twice."""
    model, batches = measurement.model, measurement.batches
    whole = max(batch.tokens for batch in batches)
    caps = [whole]
    if measurement.options.fisher == "triplet" and not is_sharded(model):
        longest = max(batch.longest for batch in batches)
        steps = math.ceil(math.log(whole / longest, _CAPS))
        caps += [max(longest, int(whole / _CAPS**step)) for step in range(1, steps + 1)]
    widest = max(linear.module.in_features + linear.module.out_features for linear in measurement.linear_layers)
    rows = 8 * widest  # bytes of a token's rows of one layer, put in order and made fp32
    if not measurement.backward:
        return [Way(cap, rerun=False, activation_bytes=cap * rows * 2, cost=1) for cap in caps]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    bound, held, visiting = _REUSED * sum(map(_row_bytes, layers)), 0, 0
    table: nn.Module = transformer_of(model).get_input_embeddings()
    found = blocks(model)
    if is_offloaded(model):  # its weights come to the device one block at a time
        held = sum(_row_bytes(linear.module) for linear in measurement.linear_layers)
        visiting = max(sum(weight.nbytes for weight in module.parameters()) for module in [table, *found])
    elif is_sharded(model) or whole * bound * 2 <= budget:
        return [Way(whole, rerun=False, activation_bytes=whole * (bound + rows), cost=3)]
    else:
        bound, held = _probe(measurement)
    between_blocks = next(table.parameters())[0].nbytes
    kept = held + (bound - held) // len(found) + between_blocks * len(found)
    ways = []
    for cap in caps:
        again = _embedded_before(measurement, cap)
        ways.append(Way(cap, rerun=True, activation_bytes=cap * (kept + rows) + visiting, cost=4 + again))
        if not is_offloaded(model):
            ways.append(Way(cap, rerun=False, activation_bytes=cap * (bound + rows), cost=3 + again))
    return ways


def _embedded_before(measurement: Measurement, at_once: int) -> float:
    """Return the part of all tokens that is embedded before it is measured.

    If the loss is over a whole batch, that is all but the last part of each batch.
    """
    if not measurement.over_batch:
        return 0.0
    before = sum(part.tokens for batch in measurement.batches for part in batch.split(at_once)[:-1])
    return before / sum(batch.tokens for batch in measurement.batches)


def _row_bytes(layer: nn.Linear) -> int:
    """Return the bytes of a token's input and output."""
    return (layer.in_features + layer.out_features) * layer.weight.element_size()


def _probe(measurement: Measurement) -> tuple[int, int]:
    """Return the bytes that a token of the longest text takes: of all activations, and of those that hooks hold."""
    model = measurement.model
    embedder = Embedder(model, measurement.prompts, HookContext())
    length, role, text = max(text for batch in measurement.batches for text in batch.texts())
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}
    held: dict[int, int] = {}
    alive: list[torch.UntypedStorage] = []  # so that no address is used twice; tensors would keep the graph for ever

    def note(of: dict[int, int], tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            of[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)

    def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        note(held, args[0])
        note(held, output)  # its gradient is as large

    with ExitStack() as stack:
        stack.enter_context(frozen(model, gradients=True))
        stack.enter_context(gradients_from(model, measurement.linear_layers))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(partial(note, saved), lambda nothing: nothing))
        for linear in measurement.linear_layers:
            stack.callback(linear.module.register_forward_hook(hook).remove)
        embedder.forward([text], role)
    return math.ceil(sum((saved | held).values()) / length), math.ceil(sum(held.values()) / length)


def _groups(sizes: Mapping[str, int], room: int) -> tuple[tuple[str, ...], ...] | None:
    """Return the linear layers in even groups of neighbours whose sums fit ``room``; ``None`` if one does not."""
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


def _budget(measurement: Measurement) -> int:
    if measurement.options.memory_budget is not None:
        return measurement.options.memory_budget
    layers, model = measurement.linear_layers, measurement.model
    return int(_MARGIN * free_bytes(device_of(layers[0].module) if layers else model.device))


def _counted(items: Collection[object], one: str, many: str) -> str:
    return f"1 {one}" if len(items) == 1 else f"{len(items):,} {many}"
