"""One pass of a measurement over this process's share of the batches: forward with hooks, backward, add."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from gaprune.errors import MeasurementError
from gaprune.models.attention import differentiable_attention
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.precision import product_type
from gaprune.statistics.accumulators import shapes_of
from gaprune.statistics.batches import Batch
from gaprune.statistics.checkpoint import CheckpointStore
from gaprune.statistics.forward import Embedder
from gaprune.statistics.gradients import frozen, gradients_from, recomputing
from gaprune.statistics.hooks import HookContext, LinearHook
from gaprune.statistics.measurement import Measurement
from gaprune.statistics.placement import device_of, is_sharded
from gaprune.statistics.plan import Plan
from gaprune.statistics.sums import LinearStatistics
from gaprune.util.distributed import gather, rank, sum_over_processes, world_size
from gaprune.util.memory import give_back
from gaprune.util.progress import duration, say, track

_MEASURED_LONG_ENOUGH = 5.0
"""Seconds of measured batches from which the time of all of them is estimated; a shorter measurement needs none."""


def run_pass(plan: Plan, index: int, store: CheckpointStore | None) -> dict[str, LinearStatistics]:
    """Return this process's sums of one pass, measured or as they were kept.

    Raises:
        MeasurementError: If an embedding or gradient is not finite, or the embedding does not depend on a layer.
    """
    measurement, batches = plan.measurement, plan.measurement.batches
    model = measurement.model
    in_step = world_size() > 1 and is_sharded(model)
    steps = range(rank(), len(batches), world_size())
    done, kept = _kept(store, index, in_step=in_step)
    title = f"Measuring {measurement.label}"
    if len(plan.passes) > 1:
        title += f", pass {index + 1} of {len(plan.passes)}"
    if kept is not None:
        say(f"{title}: {'all' if done == len(steps) else f'{done} of {len(steps)}'} batches were measured before.")

    precision = measurement.options.precision
    context = HookContext(product_type(precision))
    embedder = Embedder(model, measurement.prompts, context, precision)
    by_name = {linear.name: linear for linear in measurement.linear_layers}
    hooks = [_hook(measurement, by_name[name], kept, context) for name in plan.passes[index]]
    statistics = {hook.linear.name: hook.statistics for hook in hooks}
    memory_is_short = plan.recomputed > 0
    with ExitStack() as stack:
        stack.enter_context(frozen(model, gradients=measurement.backward))
        stack.enter_context(differentiable_attention(embedder.device))
        stack.enter_context(gradients_from(model, [hook.linear for hook in hooks]))
        if plan.way.rerun:
            stack.enter_context(recomputing(model, context))
        for hook in hooks:
            stack.callback(hook.linear.module.register_forward_hook(hook.forward).remove)
        estimate = _Estimate(plan, steps, title, is_told=index > 0 or rank() > 0)
        for number, step in enumerate(track(steps[done:], title), start=done + 1):
            idle = _most_passes(embedder, batches, step) - embedder.passes(batches[step]) if in_step else 0
            _measure_batch(measurement, embedder, batches[step], hooks, at_once=plan.way.at_once, idle=idle)
            estimate.measured(number)
            if memory_is_short:
                give_back()
            if store is not None and not in_step and number < len(steps) and store.is_due():
                store.save(index, number, statistics)
        if in_step and len(steps) < len(range(0, len(batches), world_size())):
            _differentiate(embedder.idle(_most_passes(embedder, batches, len(steps) * world_size())))
    give_back()  # the activations, before the sums are written or the next pass begins
    if store is not None and done < len(steps):
        store.save(index, len(steps), statistics)
    return statistics


class _Estimate:
    """Says once how long all passes will take, by the first batches that this process measured."""

    def __init__(self, plan: Plan, steps: Sequence[int], title: str, *, is_told: bool) -> None:
        self._tokens = [plan.measurement.batches[step].tokens for step in steps]
        self._further = (len(plan.passes) - 1) * sum(self._tokens)
        self._title, self._is_told = title, is_told
        self._began, self._measured = time.perf_counter(), 0

    def measured(self, number: int) -> None:
        """Note that the batch of this number (from 1) was measured."""
        self._measured += self._tokens[number - 1]
        passed, left = time.perf_counter() - self._began, sum(self._tokens[number:]) + self._further
        if passed >= _MEASURED_LONG_ENOUGH and left and not self._is_told:
            say(f"{self._title}: about {duration(passed / self._measured * left)} left.")
            self._is_told = True


def _kept(
    store: CheckpointStore | None, index: int, *, in_step: bool
) -> tuple[int, Mapping[str, LinearStatistics] | None]:
    """Return how many batches of a pass were measured before, and their sums."""
    done, kept = (0, None) if store is None else store.load(index)
    if in_step and len(set(gather(done))) > 1:
        return 0, None  # a sharded model computes in step, so that one process cannot go on alone
    return done, kept


def _hook(
    measurement: Measurement, linear: LinearLayer, kept: Mapping[str, LinearStatistics] | None, context: HookContext
) -> LinearHook:
    """Return the hook of a layer, with its sums so far."""
    device = device_of(linear.module)
    if kept is not None:
        statistics = kept[linear.name].to(device)
    else:
        shapes = shapes_of(linear, measurement.statistics)
        zeros = {name: torch.zeros(shape, dtype=torch.float32, device=device) for name, shape in shapes.items()}
        statistics = LinearStatistics(linear.name).with_tensors(zeros)
    batch_fisher = measurement.options.fisher == "batch"
    return LinearHook(linear, measurement.statistics, statistics, batch_fisher=batch_fisher, context=context)


def _measure_batch(
    measurement: Measurement,
    embedder: Embedder,
    batch: Batch,
    hooks: Sequence[LinearHook],
    *,
    at_once: int,
    idle: int,
) -> None:
    """Run one batch forward and, if gradients are measured, backward.

    Args:
        measurement: What is measured.
        embedder: Embeds the texts.
        batch: The batch.
        hooks: On the layers that are measured.
        at_once: Most tokens whose activations are kept at a time. If the batch has more and the loss is over the
            batch, embeddings and their gradients come first, and activations are made once more, part by part.
        idle: Forward passes to add that are not measured, so that all processes of a sharded model make as many.
    """
    triplets = hooks[0].statistics.triplets + len(batch.triplets) if measurement.backward else 0
    parts = batch.split(at_once)
    try:
        if measurement.backward and measurement.over_batch and len(parts) > 1:
            _by_parts(measurement, embedder, batch, parts)
        else:
            for part in parts:
                queries, passages = embedder.both(part, hooked=True)
                loss = measurement.loss(queries, passages, part) if measurement.backward else 0
                _differentiate(loss + embedder.idle(idle))
    except MeasurementError as error:
        raise MeasurementError(f"{error.problem} In the batch of {batch.sources}.", error.remedy) from error
    finally:
        embedder.context.clear()
        for hook in hooks:
            hook.forget()
    require_gradients((hook.statistics for hook in hooks), triplets)


def _differentiate(total: Tensor | int) -> None:
    if isinstance(total, Tensor) and total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]


def _by_parts(measurement: Measurement, embedder: Embedder, batch: Batch, parts: Sequence[Batch]) -> None:
    """Source: Gao et al. 2021, gradient caching (arXiv 2101.06983), over whole triplets; the last part runs once."""
    with torch.no_grad():
        embeddings = [embedder.both(part, hooked=False) for part in parts[:-1]]
    last = embedder.both(parts[-1], hooked=True)
    embeddings.append((last[0].detach(), last[1].detach()))
    queries, passages = (torch.cat(each).requires_grad_() for each in zip(*embeddings, strict=True))
    gradients = torch.autograd.grad(measurement.loss(queries, passages, batch), (queries, passages))
    by_query = torch.split(gradients[0], [len(each) for each, _ in embeddings])
    by_passage = torch.split(gradients[1], [len(each) for _, each in embeddings])
    torch.autograd.backward(last, (by_query[-1], by_passage[-1]))
    del last
    for part, of_queries, of_passages in zip(parts[:-1], by_query, by_passage, strict=False):
        torch.autograd.backward(embedder.both(part, hooked=True), (of_queries, of_passages))


def _most_passes(embedder: Embedder, batches: Sequence[Batch], step: int) -> int:
    """Return the most forward passes that a process makes for its batch in the turn of a step."""
    start = step // world_size() * world_size()
    return max(map(embedder.passes, batches[start : start + world_size()]))


def require_gradients(statistics: Iterable[LinearStatistics], triplets: int) -> None:
    """Check that every layer has run and has had gradients of so many triplets.

    Raises:
        MeasurementError: If one has not.
    """
    for each in statistics:
        if each.tokens == 0 or each.triplets != triplets:
            raise MeasurementError(
                f"{each.name}: no gradient reaches this layer, the embedding does not depend on it.",
                f"Leave it out (--set ignore={each.name}), or choose other --targets.",
            )


def add_processes(statistics: Mapping[str, LinearStatistics]) -> dict[str, LinearStatistics]:
    """Return the statistics summed over all processes."""
    shifts = gather({name: each.input_shift for name, each in statistics.items() if each.input_shift is not None})
    first = {name: shift.to(statistics[name].input_shift) for name, shift in shifts[0].items()}
    found = {name: each.shifted(first.get(name)) for name, each in statistics.items()}
    sum_over_processes(total for each in found.values() for total in each.sums().values())
    counts = gather([(each.samples, each.triplets, each.tokens) for each in found.values()])
    totals = [tuple(map(sum, zip(*of_all, strict=True))) for of_all in zip(*counts, strict=True)]
    return {
        name: replace(each, samples=samples, triplets=triplets, tokens=tokens)
        for (name, each), (samples, triplets, tokens) in zip(found.items(), totals, strict=True)
    }
