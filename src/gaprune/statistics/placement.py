"""Where the weights are while statistics are measured: with the model, on the host, or spread over processes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from gaprune.config.measurement import MeasurementOptions
from gaprune.errors import ConfigError
from gaprune.models.blocks import blocks
from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.util.distributed import rank, world_size

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def check_placement(options: MeasurementOptions) -> None:
    """Refuse to spread weights over a single process; call it once the process group is joined.

    Raises:
        ConfigError: If there is only one.
    """
    if options.placement == "shard" and world_size() == 1:
        raise ConfigError(
            "placement: shard spreads the weights over processes, and there is one.",
            "Start with torchrun --nproc-per-node 2 or more, or use --set placement=offload.",
        )


@contextmanager
def placed(
    model: SentenceTransformer, chosen: Sequence[LinearLayer], options: MeasurementOptions
) -> Iterator[tuple[SentenceTransformer, list[LinearLayer]]]:
    """Yield the model and its chosen linear layers where ``options.placement`` puts their weights.

    Offloaded and sharded models are twins: modules of their own that read the weights of ``model``, which stay where
    they are and are not touched. Offloading is accelerate's, sharding is torch's ``fully_shard`` (FSDP2), a block at
    a time.

    Raises:
        ConfigError: If weights are to be spread over the processes, and there is only one.
    """
    check_placement(options)
    if options.placement == "whole":
        yield model, list(chosen)
        return
    twin = _twin(model)
    device = _execution_device(options)
    if options.placement == "offload":
        from accelerate import cpu_offload

        cpu_offload(twin, device)
    else:
        _shard(twin, device)
    modules = {linear.name: linear.module for linear in linear_layers(twin)}
    yield twin, [replace(linear, module=modules[linear.name]) for linear in chosen]


def _twin(model: SentenceTransformer) -> SentenceTransformer:
    """Return a copy with parameters of its own that share the weights' storage."""
    shared = {id(each): nn.Parameter(each.data, requires_grad=False) for each in model.parameters()}
    return copy.deepcopy(model, dict(shared))


def _execution_device(options: MeasurementOptions) -> torch.device:
    """Return the device that was asked for, or this process's accelerator, or the host."""
    if options.device is not None:
        return torch.device(options.device)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, rank() % torch.accelerator.device_count())


def _shard(model: SentenceTransformer, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def device_of(module: nn.Module) -> torch.device:
    """Return where a layer computes, also while its weight is kept elsewhere."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if device is None else torch.device(device)


def is_offloaded(model: nn.Module) -> bool:
    """Return whether weights are brought to the device only when they are needed."""
    return any(parameter.is_meta for parameter in model.parameters())


def is_sharded(model: nn.Module) -> bool:
    """Return whether the weights are spread over processes, which then must compute in step."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
