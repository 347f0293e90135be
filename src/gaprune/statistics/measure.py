"""Calibration triplets in, statistics of every selected linear layer out: the only door to this room."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.measurement import MeasurementOptions
from gaprune.data.triplets import Triplets
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.modes import padded_inputs
from gaprune.models.prompts import Prompts
from gaprune.statistics.checkpoint import Checkpoint, CheckpointStore, StatisticsFiles, write_statistics
from gaprune.statistics.measurement import Measurement, by_backward
from gaprune.statistics.placement import device_of, placed
from gaprune.statistics.plan import Plan, plan_for
from gaprune.statistics.runner import add_processes, require_gradients, run_pass
from gaprune.statistics.sums import LinearStatistics, Statistic, Statistics
from gaprune.util.distributed import gather, rank, world_size
from gaprune.util.files import temporary_folder
from gaprune.util.progress import say

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


def measure(
    model: SentenceTransformer,
    triplets: Triplets,
    linear_layers: Sequence[LinearLayer],
    *,
    statistics: Collection[Statistic],
    prompts: Prompts,
    options: MeasurementOptions,
    label: str = "calibration",
    checkpoint: Checkpoint | None = None,
    cache: Path | None = None,
) -> Statistics:
    """Measure the statistics of ``linear_layers`` in as few passes over ``triplets`` as the memory budget allows.

    The model is in evaluation mode and frozen meanwhile and is left as it was. Triplets are taken in batches of
    similar length. The gradient of triplet i is the part of the gradient of the summed loss that flows through its own
    texts; with explicit negatives alone it is the gradient of its own loss. In a process group, every process takes
    its share of the batches, and all return the sums over all of them.

    Args:
        model: The model that holds the linear layers.
        triplets: Calibration data.
        linear_layers: What to measure, from :func:`gaprune.models.linear_layers.linear_layers`.
        statistics: Which statistics; those of inputs alone need no backward pass.
        prompts: Put before queries and passages.
        options: Loss, Fisher kind, batch size, seed, memory budget and placement of the weights.
        label: Name of the data in the progress bar and the checkpoint.
        checkpoint: Where sums are kept, so that a killed run can continue.
        cache: Path beside which the sums of finished passes lie while they are used, if there are several passes and
            no checkpoint; by default a folder for temporary files.

    Raises:
        ConfigError: If the memory budget is too small, the checkpoint is not to be resumed or cannot be read, or a
            single process is to shard the model.
        DataError: If explicit negatives are asked for and a triplet has none, or a batch is a single pair.
        OutputError: If sums cannot be written.
        MeasurementError: If an embedding or gradient is not finite, the embedding does not depend on a layer, or
            another process ended.
    """
    devices = {linear.name: device_of(linear.module) for linear in linear_layers}
    found = []
    with padded_inputs(model), placed(model, linear_layers, options) as (there, chosen):
        for title, part in by_backward(statistics, label).items():
            measurement = Measurement.of(there, triplets, chosen, part, prompts, options, title)
            if checkpoint is None:
                found.append(_measured(measurement, None, cache, devices))
            else:
                with checkpoint.store(title, measurement.origin()) as store:
                    found.append(_measured(measurement, store, cache, devices))
    return Statistics(found, triplets.fingerprint)


def _measured(
    measurement: Measurement, store: CheckpointStore | None, cache: Path | None, devices: Mapping[str, torch.device]
) -> Mapping[str, LinearStatistics]:
    """Return the sums of all passes, on ``devices`` by linear layer."""
    plan = plan_for(measurement)
    if store is not None:
        plan = _as_before(plan, store)
    if rank() == 0:
        say(str(plan))
    one_pass = len(plan.passes) == 1
    with ExitStack() as stack:
        folder = None
        if not one_pass and (store is None or world_size() > 1):
            folder = stack.enter_context(temporary_folder(cache))
        paths = []
        for index in range(len(plan.passes)):
            found = add_processes(run_pass(plan, index, store))
            require_gradients(found.values(), len(measurement.triplets) if measurement.backward else 0)
            if one_pass:
                return {name: each.to(devices[name]) for name, each in found.items()}
            if folder is not None:
                paths.append(folder / f"{index}.safetensors")
                write_statistics(paths[-1], found)
            elif store is not None:
                paths.append(store.path(index))
            del found  # before the next pass allocates its sums
        return StatisticsFiles(paths, devices=devices, at_end=stack.pop_all().close)


def _as_before(plan: Plan, store: CheckpointStore) -> Plan:
    """Return the plan in the shape that was begun with, if all processes have that and it fits the memory."""
    shapes = gather(store.shape)
    before = plan if shapes[0] is None or any(shape != shapes[0] for shape in shapes) else plan.reshaped(shapes[0])
    if before.needed_bytes > plan.budget_bytes:
        say("There is less memory than when these measurements were begun: measuring from the start.")
        before = plan
    store.begin(before.shape)
    return before
