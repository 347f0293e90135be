"""Triplets in, signals of every selected matrix out: in one pass, or in as many as the memory asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplets
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.load import padded_inputs
from gaprune.models.prompts import Prompts
from gaprune.statistics.accumulators import BACKWARD, PROJECTED
from gaprune.statistics.batches import Batch, batches_of, require_in_batch_negative, require_negatives
from gaprune.statistics.checkpoint import Checkpoint, CheckpointStore, DiskCache, StoredStatistics
from gaprune.statistics.placement import device_of, placed
from gaprune.statistics.plan import Plan, plan_for
from gaprune.statistics.runner import MeasurementRunner, add_processes, require_gradients
from gaprune.statistics.sums import Statistic, Statistics
from gaprune.util.distributed import gather, rank, world_size
from gaprune.util.progress import say

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["measure", "plan_measurement"]


def plan_measurement(
    model: SentenceTransformer,
    triplets: Triplets,
    linear_layers: Sequence[LinearLayer],
    *,
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
    label: str = "calibration",
) -> Plan:
    """Return how :func:`measure` would go about it with the same arguments: passes, memory, time.

    Raises:
        ConfigError: If the memory budget is too small.
        DataError: If the triplets cannot be measured as the options say.
    """
    (label, quantities), *_ = _backwards(quantities, label).items()
    with padded_inputs(model), placed(model, linear_layers, options) as (there, chosen):
        batches = _checked_batches(there, triplets, quantities, prompts, options)
        return plan_for(there, batches, chosen, quantities=quantities, prompts=prompts, options=options, label=label)


def measure(
    model: SentenceTransformer,
    triplets: Triplets,
    linear_layers: Sequence[LinearLayer],
    *,
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
    label: str = "calibration",
    checkpoint: Checkpoint | None = None,
) -> Statistics:
    """Measure the signals of ``linear_layers`` in as few passes over ``triplets`` as the memory budget allows.

    The model is in evaluation mode and frozen meanwhile and is left as it was. Triplets are taken in batches of
    like length. The gradient of triplet i is the part of the gradient of the summed loss that flows through its own
    texts; with explicit negatives alone it is the gradient of its own loss. In a process group, every process takes
    its share of the batches, and all return the sums over all of them.

    Args:
        model: The model that holds the matrices.
        triplets: Calibration data.
        linear_layers: What to measure, from :func:`gaprune.models.load.linear_layers`.
        quantities: Which signals; with those of inputs alone no backward is run.
        prompts: Put before queries and passages.
        options: Loss, Fisher kind, batch size, seed, memory budget and placement of the weights.
        label: Name of the data in the progress bar and the checkpoint.
        checkpoint: Where to keep what was measured, so that a killed run goes on.

    Raises:
        ConfigError: If the memory budget is too small, the checkpoint is not to be resumed or cannot be read, or a
            single process is to shard the model.
        DataError: If explicit negatives are asked for and a triplet has none, or a batch is one pair alone.
        OutputError: If the checkpoint cannot be written.
        SignalError: If an embedding or gradient is not finite, the embedding does not depend on a matrix, or
            another process ended.
    """
    devices = {matrix.name: device_of(matrix.module) for matrix in linear_layers}
    parts = _backwards(quantities, label)
    with padded_inputs(model), placed(model, linear_layers, options) as (there, chosen):
        found = [
            _measured(there, triplets, chosen, part, prompts, options, title, checkpoint, devices)
            for title, part in parts.items()
        ]
    return found[0] if len(found) == 1 else found[0].beside(found[1])


def _backwards(quantities: Collection[Statistic], label: str) -> dict[str, frozenset[Statistic]]:
    """Return the quantities that a backward can give together, by the name of their data in what is shown."""
    wanted = frozenset(quantities)
    projected = wanted & PROJECTED
    if projected and wanted & (BACKWARD - PROJECTED):
        return {label: wanted - projected, f"{label}, embeddings": projected}
    return {label: wanted}


def _measured(
    model: SentenceTransformer,
    triplets: Triplets,
    linear_layers: Sequence[LinearLayer],
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
    label: str,
    checkpoint: Checkpoint | None,
    devices: Mapping[str, torch.device],
) -> Statistics:
    """Measure a model where it is; the sums are given on ``devices``, by matrix."""
    batches = _checked_batches(model, triplets, quantities, prompts, options)
    shelf = None
    if checkpoint is not None:
        shelf = checkpoint.shelf(label, _origin(model, triplets, linear_layers, quantities, prompts, options))
    planned = plan_for(
        model, batches, linear_layers, quantities=quantities, prompts=prompts, options=options, label=label
    )
    if shelf is not None:
        planned = _as_before(planned, shelf)
    if rank() == 0:
        say(str(planned))
    work = MeasurementRunner(
        model, batches, {matrix.name: matrix for matrix in linear_layers}, quantities, prompts, options, planned
    )
    one_pass = len(planned.passes) == 1
    spill = DiskCache() if not one_pass and (shelf is None or world_size() > 1) else None
    for index, names in enumerate(planned.passes):
        found = add_processes(work.run(index, names, shelf))
        require_gradients(found.values(), len(triplets) if planned.backward else 0)
        if one_pass:
            return Statistics({name: each.to(devices[name]) for name, each in found.items()}, triplets.fingerprint)
        if spill is not None:
            spill.keep(found)
        del found  # before the next pass allocates its sums
    paths = spill.paths if spill is not None else [shelf.path(i) for i in range(len(planned.passes))] if shelf else []
    return Statistics(StoredStatistics(paths, spill, devices), triplets.fingerprint)


def _checked_batches(
    model: SentenceTransformer,
    triplets: Triplets,
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
) -> list[Batch]:
    contrastive = bool((BACKWARD - PROJECTED) & set(quantities))
    if contrastive and options.negatives == "explicit":
        require_negatives(triplets)
    batches = batches_of(model, triplets, prompts, options)
    if contrastive and options.negatives == "in-batch":
        require_in_batch_negative(batches, triplets)
    return batches


def _origin(
    model: SentenceTransformer,
    triplets: Triplets,
    linear_layers: Sequence[LinearLayer],
    quantities: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
) -> dict[str, object]:
    """Return all that the sums depend on, but for the model's weights, in the words of the options."""
    return {
        "triplets": triplets.fingerprint,
        "prompts": [prompts.query, prompts.passage],
        "matrices": [[matrix.name, matrix.columns_per_unit, *matrix.module.weight.shape] for matrix in linear_layers],
        "quantities": sorted(quantities),
        "max_length": model.max_seq_length,
        "truncate_dim": model.truncate_dim,
        "fisher": options.fisher,
        "negatives": options.negatives,
        "temperature": options.temperature,
        "batch size": options.triplets_per_batch,
        "seed": options.seed,
    }


def _as_before(planned: Plan, shelf: CheckpointStore) -> Plan:
    """Return the plan in the shape that was begun with, if all processes have that and it fits the memory."""
    shapes = gather(shelf.shape)
    before = (
        planned if shapes[0] is None or any(shape != shapes[0] for shape in shapes) else planned.reshaped(shapes[0])
    )
    if before.needed_bytes > planned.budget_bytes:
        say("There is less memory than when these measurements were begun: measuring from the start.")
        before = planned
    shelf.begin(before.shape)
    return before
