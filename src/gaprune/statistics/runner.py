"""The passes of a measurement, each over this process's share of the batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gaprune.config.measurement import MeasurementOptions
from gaprune.errors import MeasurementError
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.prompts import Prompts
from gaprune.statistics.accumulators import shapes_of
from gaprune.statistics.batches import Batch
from gaprune.statistics.checkpoint import CheckpointStore, PassState
from gaprune.statistics.hooks import HookContext, LinearHook
from gaprune.statistics.passes import (
    Embedder,
    Objective,
    frozen,
    gradients_from,
    idle_step,
    measure_batch,
    recomputing,
)
from gaprune.statistics.placement import device_of, is_sharded
from gaprune.statistics.plan import Plan
from gaprune.statistics.sums import LinearStatistics, Statistic
from gaprune.util.distributed import gather, rank, sum_over_processes, world_size
from gaprune.util.memory import give_back
from gaprune.util.progress import say, track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["MeasurementRunner", "add_processes", "require_gradients"]


class MeasurementRunner:
    """What all passes have in common.

    Args:
        model: The model.
        batches: The batches of all processes, in their order.
        matrices: By name.
        quantities: What is measured.
        prompts: Put before queries and passages.
        options: The loss.
        plan: How it is cut into passes.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        batches: Sequence[Batch],
        linear_layers: Mapping[str, LinearLayer],
        quantities: Collection[Statistic],
        prompts: Prompts,
        options: MeasurementOptions,
        plan: Plan,
    ) -> None:
        self.model = model
        self.batches = batches
        self.linear_layers = linear_layers
        self.quantities = quantities
        self.objective = Objective.of(quantities, options)
        self.plan = plan
        self.watch = HookContext()
        self.embedder = Embedder(model, prompts, self.watch)
        self.in_step = world_size() > 1 and is_sharded(model)

    def run(self, index: int, names: Sequence[str], shelf: CheckpointStore | None) -> dict[str, LinearStatistics]:
        """Return this process's sums of one pass, measured or as they were kept.

        Raises:
            SignalError: If an embedding or gradient is not finite, or the embedding does not depend on a matrix.
        """
        kept = None if shelf is None else shelf.load(index)
        if self.in_step and len(set(gather(None if kept is None else kept.done))) > 1:
            kept = None  # a sharded model computes in step, so that one process cannot go on alone
        steps = range(rank(), len(self.batches), world_size())
        done = 0 if kept is None else kept.done
        title = f"Measuring {self.plan.label}" + (
            f", pass {index + 1} of {len(self.plan.passes)}" if len(self.plan.passes) > 1 else ""
        )
        if kept is not None:
            so_far = "all" if done == len(steps) else f"{done} of {len(steps)}"
            say(f"{title}: {so_far} batches were measured before.")
        hooks = [self._tap(self.linear_layers[name], kept) for name in names]
        with ExitStack() as stack:
            stack.enter_context(frozen(self.model, gradients=self.plan.backward))
            stack.enter_context(gradients_from(self.model, [tap.matrix for tap in hooks]))
            if self.plan.rerun:
                stack.enter_context(recomputing(self.model, self.watch))
            for tap in hooks:
                stack.callback(tap.matrix.module.register_forward_hook(tap.forward).remove)
            for number, step in enumerate(track(steps[done:], title), start=done + 1):
                self._step(step, hooks)
                if self.plan.recomputed:  # memory is short
                    give_back()
                if shelf is not None and not self.in_step and number < len(steps) and shelf.is_due():
                    shelf.save(index, number, {tap.matrix.name: tap.statistics for tap in hooks})
            if self.in_step and len(steps) < len(range(0, len(self.batches), world_size())):
                idle_step(self.embedder, self._rounds(len(steps)))
        give_back()  # the activations, before the sums are written or the next pass begins
        found = {tap.matrix.name: tap.statistics for tap in hooks}
        if shelf is not None and done < len(steps):
            shelf.save(index, len(steps), found)
        return found

    def _tap(self, matrix: LinearLayer, kept: PassState | None) -> LinearHook:
        device = device_of(matrix.module)
        sums = {
            name: torch.zeros(shape, dtype=torch.float32, device=device)
            for name, shape in shapes_of(matrix, self.quantities).items()
        }
        statistics = LinearStatistics(matrix.name, 0, 0, 0, **sums)
        if kept is not None:
            before = kept.statistics[matrix.name]
            statistics.samples, statistics.triplets, statistics.tokens = before.samples, before.triplets, before.tokens
            for name, total in before.sums().items():
                sums[name].copy_(total)
        return LinearHook(
            matrix,
            self.quantities,
            statistics,
            batch_fisher=self.objective.options.fisher == "batch",
            watch=self.watch,
        )

    def _step(self, step: int, hooks: Sequence[LinearHook]) -> None:
        batch = self.batches[step]
        triplets = hooks[0].statistics.triplets + len(batch.triplets) if self.plan.backward else 0
        idle = self._rounds(step // world_size()) - self.embedder.rounds(batch) if self.in_step else 0
        try:
            measure_batch(self.embedder, batch, hooks, self.objective, at_once=self.plan.at_once, idle=idle)
        except MeasurementError as error:
            raise MeasurementError(f"{error.problem} In the batch of {batch.sources}.", error.remedy) from error
        require_gradients((tap.statistics for tap in hooks), triplets)

    def _rounds(self, turn: int) -> int:
        """Return the most forward passes that a process makes for its batch in a turn."""
        return max(map(self.embedder.rounds, self.batches[turn * world_size() : (turn + 1) * world_size()]))


def require_gradients(statistics: Iterable[LinearStatistics], triplets: int) -> None:
    """Check that every layer has run and has had gradients of so many triplets."""
    for each in statistics:
        if each.tokens == 0 or each.triplets != triplets:
            raise MeasurementError(
                f"{each.name}: no gradient reaches this layer, the embedding does not depend on it.",
                f"Leave it out (--ignore {each.name}), or choose other --targets.",
            )


def add_processes(statistics: Mapping[str, LinearStatistics]) -> dict[str, LinearStatistics]:
    """Return the signals summed over all processes; the tensors are added to in place."""
    sum_over_processes(total for each in statistics.values() for total in each.sums().values())
    counts = gather([(each.samples, each.triplets, each.tokens) for each in statistics.values()])
    totals = [tuple(map(sum, zip(*of_all, strict=True))) for of_all in zip(*counts, strict=True)]
    return {
        name: replace(each, samples=samples, triplets=triplets, tokens=tokens)
        for (name, each), (samples, triplets, tokens) in zip(statistics.items(), totals, strict=True)
    }
