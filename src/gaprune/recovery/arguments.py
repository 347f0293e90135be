"""Arguments of the trainer of sentence-transformers, and the checks that need a model but no training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError, ModelError
from gaprune.models.prompts import TASKS, resolve_prompts
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import RecoveryData
from gaprune.recovery.text_data import TextData

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
    from transformers import PreTrainedModel

_KEPT = 2
"""Number of checkpoints that are kept: the best and the last."""


_LAST_RATE = 0.1
"""Learning rate at the end of a distillation on texts, as a share of the highest."""


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices in bfloat16 faster than in float32."""
    if device.type != "cpu":
        from transformers.utils.import_utils import is_torch_bf16_gpu_available

        return bool(is_torch_bf16_gpu_available())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def check_training(model: SentenceTransformer, data: RecoveryData | TextData, options: RecoveryOptions) -> None:
    """Check that ``model`` can be trained as asked for; call it before the expensive work.

    Raises:
        ConfigError: If the device or the number of processes does not fit.
        ModelError: If the model cannot be trained with these options.
    """
    training_arguments(model, data, options, Checkpoints(Path()))
    if options.gradient_checkpointing:
        _transformer_with_checkpointing(model)


def training_arguments(
    model: SentenceTransformer, data: RecoveryData | TextData, options: RecoveryOptions, checkpoints: Checkpoints
) -> SentenceTransformerTrainingArguments:
    """Return the arguments of the trainer.

    Raises:
        ConfigError: If the device or the number of processes does not fit.
    """
    from accelerate import PartialState
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.modules import Router

    on_cpu = model.device.type == "cpu"
    if options.bf16 and not on_cpu and not computes_in_bf16(model.device):
        raise ConfigError(
            f"bf16: the device {model.device} does not compute in bfloat16.",
            "Leave it out, or compute on the CPU: --set device=cpu.",
        )
    processes = PartialState(cpu=on_cpu).num_processes
    held_out, held_out_batch = data.held_out_batches(options, processes)
    prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)
    by_column = {column: prompts.of(role) for column, role in data.columns.items()}
    routed = any(isinstance(module, Router) for module in model.children())
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints.folder.absolute()),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size // processes,
        per_device_eval_batch_size=held_out_batch // processes,
        learning_rate=options.rate,
        warmup_steps=round(options.warmup * options.steps),
        lr_scheduler_type="linear" if options.texts is None else "cosine_with_min_lr",
        lr_scheduler_kwargs={} if options.texts is None else {"min_lr_rate": _LAST_RATE},
        bf16=bool(options.bf16),
        use_cpu=on_cpu,
        seed=options.seed,
        eval_strategy="steps" if held_out else "no",
        eval_steps=options.evaluate_every,
        eval_on_start=bool(held_out) and checkpoints.last(processes) is None,
        save_strategy="steps" if held_out or checkpoints.resumable else "no",
        save_steps=options.evaluate_every,
        save_total_limit=_KEPT,
        save_only_model=not checkpoints.resumable,
        metric_for_best_model="loss" if held_out else None,
        greater_is_better=False if held_out else None,
        logging_steps=options.evaluate_every,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        dataloader_drop_last=processes > 1,  # sentence-transformers sets this with a warning; all batches are full
        prompts={column: prompt for column, prompt in by_column.items() if prompt is not None} or None,
        router_mapping={column: TASKS[role] for column, role in data.columns.items()} if routed else {},
    )
    if arguments.n_gpu > 1:
        raise ConfigError(
            f"device: one process sees {arguments.n_gpu} devices, and in-batch negatives need a process for each.",
            "Start it with torchrun or accelerate launch, or show one device: CUDA_VISIBLE_DEVICES=0.",
        )
    return arguments


@contextmanager
def gradient_checkpointing(model: SentenceTransformer) -> Iterator[None]:
    """Recompute the activations of the transformer in the backward pass, inside the block."""
    transformer = _transformer_with_checkpointing(model)
    transformer.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        transformer.activation_checkpointing_disable()  # type: ignore[no-untyped-call]


def _transformer_with_checkpointing(model: SentenceTransformer) -> PreTrainedModel:
    transformer = model.transformers_model
    if transformer is None or not transformer.supports_gradient_checkpointing:
        raise ModelError(
            f"gradient_checkpointing: a {type(transformer).__name__} cannot recompute its activations.",
            "Use --set mini_batch_size=8 instead.",
        )
    return transformer
