"""The passes of a measurement, each over this process's share of the batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gaprune.anatomy import Matrix
from gaprune.config import SignalOptions
from gaprune.errors import SignalError
from gaprune.memory import give_back
from gaprune.models import Prompts
from gaprune.processes import gather, rank, size, sum_over_processes
from gaprune.progress import say, track
from gaprune.signals.accumulators import shapes_of
from gaprune.signals.batches import Batch
from gaprune.signals.checkpoint import Kept, Shelf
from gaprune.signals.passes import Embedder, Objective, frozen, idle_step, measure_batch, rerunning, starting_at
from gaprune.signals.placement import device_of, is_sharded
from gaprune.signals.plan import Plan
from gaprune.signals.sums import MatrixSignals, Quantity
from gaprune.signals.taps import Tap, Watch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Work", "add_processes", "need_use"]


class Work:
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
        matrices: Mapping[str, Matrix],
        quantities: Collection[Quantity],
        prompts: Prompts,
        options: SignalOptions,
        plan: Plan,
    ) -> None:
        self.model = model
        self.batches = batches
        self.matrices = matrices
        self.quantities = quantities
        self.objective = Objective.of(quantities, options)
        self.plan = plan
        self.watch = Watch()
        self.embedder = Embedder(model, prompts, self.watch)
        self.in_step = size() > 1 and is_sharded(model)

    def run(self, index: int, names: Sequence[str], shelf: Shelf | None) -> dict[str, MatrixSignals]:
        """Return this process's sums of one pass, measured or as they were kept.

        Raises:
            SignalError: If an embedding or gradient is not finite, or the embedding does not depend on a matrix.
        """
        kept = None if shelf is None else shelf.load(index)
        if self.in_step and len(set(gather(None if kept is None else kept.done))) > 1:
            kept = None  # a sharded model computes in step, so that one process cannot go on alone
        steps = range(rank(), len(self.batches), size())
        done = 0 if kept is None else kept.done
        title = f"Measuring {self.plan.label}" + (
            f", pass {index + 1} of {len(self.plan.passes)}" if len(self.plan.passes) > 1 else ""
        )
        if kept is not None:
            so_far = "all" if done == len(steps) else f"{done} of {len(steps)}"
            say(f"{title}: {so_far} batches were measured before.")
        taps = [self._tap(self.matrices[name], kept) for name in names]
        with ExitStack() as stack:
            stack.enter_context(frozen(self.model, gradients=self.plan.backward))
            stack.enter_context(starting_at(self.model, [tap.matrix for tap in taps]))
            if self.plan.rerun:
                stack.enter_context(rerunning(self.model, self.watch))
            for tap in taps:
                stack.callback(tap.matrix.module.register_forward_hook(tap.forward).remove)
            for number, step in enumerate(track(steps[done:], title), start=done + 1):
                self._step(step, taps)
                if self.plan.recomputed:  # memory is short
                    give_back()
                if shelf is not None and not self.in_step and number < len(steps) and shelf.is_due():
                    shelf.save(index, number, {tap.matrix.name: tap.signals for tap in taps})
            if self.in_step and len(steps) < len(range(0, len(self.batches), size())):
                idle_step(self.embedder, self._rounds(len(steps)))
        give_back()  # the activations, before the sums are written or the next pass begins
        found = {tap.matrix.name: tap.signals for tap in taps}
        if shelf is not None and done < len(steps):
            shelf.save(index, len(steps), found)
        return found

    def _tap(self, matrix: Matrix, kept: Kept | None) -> Tap:
        device = device_of(matrix.module)
        sums = {
            name: torch.zeros(shape, dtype=torch.float32, device=device)
            for name, shape in shapes_of(matrix, self.quantities).items()
        }
        signals = MatrixSignals(matrix.name, 0, 0, 0, **sums)
        if kept is not None:
            before = kept.signals[matrix.name]
            signals.samples, signals.triplets, signals.tokens = before.samples, before.triplets, before.tokens
            for name, total in before.sums().items():
                sums[name].copy_(total)
        return Tap(
            matrix, self.quantities, signals, batch_fisher=self.objective.options.fisher == "batch", watch=self.watch
        )

    def _step(self, step: int, taps: Sequence[Tap]) -> None:
        batch = self.batches[step]
        triplets = taps[0].signals.triplets + len(batch.triplets) if self.plan.backward else 0
        idle = self._rounds(step // size()) - self.embedder.rounds(batch) if self.in_step else 0
        try:
            measure_batch(self.embedder, batch, taps, self.objective, at_once=self.plan.at_once, idle=idle)
        except SignalError as error:
            raise SignalError(f"{error.problem} In the batch of {batch.sources}.", error.remedy) from error
        need_use((tap.signals for tap in taps), triplets)

    def _rounds(self, turn: int) -> int:
        """Return the most forward passes that a process makes for its batch in a turn."""
        return max(map(self.embedder.rounds, self.batches[turn * size() : (turn + 1) * size()]))


def need_use(signals: Iterable[MatrixSignals], triplets: int) -> None:
    """Check that every layer has run and has had gradients of so many triplets."""
    for each in signals:
        if each.tokens == 0 or each.triplets != triplets:
            raise SignalError(
                f"{each.name}: no gradient reaches this layer, the embedding does not depend on it.",
                f"Leave it out (--ignore {each.name}), or choose other --targets.",
            )


def add_processes(signals: Mapping[str, MatrixSignals]) -> dict[str, MatrixSignals]:
    """Return the signals summed over all processes; the tensors are added to in place."""
    sum_over_processes(total for each in signals.values() for total in each.sums().values())
    counts = gather([(each.samples, each.triplets, each.tokens) for each in signals.values()])
    totals = [tuple(map(sum, zip(*of_all, strict=True))) for of_all in zip(*counts, strict=True)]
    return {
        name: replace(each, samples=samples, triplets=triplets, tokens=tokens)
        for (name, each), (samples, triplets, tokens) in zip(signals.items(), totals, strict=True)
    }
