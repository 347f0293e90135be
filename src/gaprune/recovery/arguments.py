"""What the trainer of sentence-transformers is told, and what is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError, ModelError
from gaprune.models.prompts import TASKS, Prompts
from gaprune.recovery.corpus import Corpus
from gaprune.recovery.lora import check_lora

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
    from transformers import PreTrainedModel

__all__ = ["check_extras", "check_training", "recomputing", "training_arguments"]

_KEPT = 2
"""Checkpoints kept: the best and the last."""


def check_extras(options: RecoveryOptions) -> None:
    """Check that the optional dependencies that ``options`` need are there.

    Raises:
        MissingExtraError: If one is not.
    """
    if options.lora:
        check_lora()


def check_training(model: SentenceTransformer, corpus: Corpus, options: RecoveryOptions, prompts: Prompts) -> None:
    """Check what training would refuse of a model, before the expensive work.

    Raises:
        ConfigError: If the device or the number of processes does not fit.
        ModelError: If the model cannot be trained as asked for.
    """
    training_arguments(model, corpus, options, prompts, Path(), resumed=False, resumable=False)
    if options.gradient_checkpointing:
        recomputing(model)


def training_arguments(
    model: SentenceTransformer,
    corpus: Corpus,
    options: RecoveryOptions,
    prompts: Prompts,
    checkpoints: Path,
    *,
    resumed: bool,
    resumable: bool,
) -> SentenceTransformerTrainingArguments:
    """Return what the trainer is told.

    Raises:
        ConfigError: If the device or the number of processes does not fit.
    """
    from accelerate import PartialState
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.modules import Router
    from transformers.utils.import_utils import is_torch_bf16_gpu_available

    on_cpu = model.device.type == "cpu"
    if options.bf16 and not on_cpu and not is_torch_bf16_gpu_available():
        raise ConfigError(
            f"bf16: the device {model.device} does not compute in bfloat16.", "Leave it out, or use --device cpu."
        )
    parts = PartialState(cpu=on_cpu).num_processes
    held, held_batch = corpus.looked_at(options, parts)
    routed = any(isinstance(module, Router) for module in model.children())
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints.absolute()),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size // parts,
        per_device_eval_batch_size=held_batch // parts,
        learning_rate=options.rate,
        warmup_steps=round(options.warmup * options.steps),
        lr_scheduler_type="linear",
        bf16=options.bf16,
        use_cpu=on_cpu,
        seed=options.seed,
        eval_strategy="steps" if held else "no",
        eval_steps=options.evaluate_every,
        eval_on_start=bool(held) and not resumed,
        save_strategy="steps" if held or resumable else "no",
        save_steps=options.evaluate_every,
        save_total_limit=_KEPT,
        save_only_model=not resumable,
        load_best_model_at_end=bool(held),
        metric_for_best_model="loss" if held else None,
        greater_is_better=False if held else None,
        logging_steps=options.evaluate_every,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        dataloader_drop_last=parts > 1,  # what sentence-transformers sets, with a warning; all batches are full
        prompts=corpus.prompts(prompts) or None,
        router_mapping={column: TASKS[role] for column, role in corpus.columns.items()} if routed else {},
    )
    if arguments.n_gpu > 1:
        raise ConfigError(
            f"device: one process sees {arguments.n_gpu} devices, and in-batch negatives need a process for each.",
            "Start it with torchrun or accelerate launch, or show one device: CUDA_VISIBLE_DEVICES=0.",
        )
    return arguments


def recomputing(model: SentenceTransformer) -> PreTrainedModel:
    """Return the transformer of a model, which can recompute its activations.

    Raises:
        ModelError: If it cannot.
    """
    transformer = model.transformers_model
    if transformer is None or not transformer.supports_gradient_checkpointing:
        raise ModelError(
            f"gradient_checkpointing: a {type(transformer).__name__} cannot recompute its activations.",
            "Use --mini-batch-size instead.",
        )
    return transformer
