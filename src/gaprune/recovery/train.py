"""One recovery: a model, its zeros and a corpus in, the same model retrained out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gaprune.anatomy import matrices
from gaprune.config import RecoveryOptions
from gaprune.errors import ConfigError, ModelError
from gaprune.models import Prompts
from gaprune.progress import bars
from gaprune.recovery.corpus import Corpus
from gaprune.recovery.held import zeros_of
from gaprune.recovery.lora import check_lora, low_rank
from gaprune.recovery.teacher import Teacher

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
    from transformers import TrainerCallback


__all__ = ["Training", "check_extras", "train"]

TERMS = ("contrastive", "embedding", "similarity")
"""Names of the terms of the loss."""

_KEPT = 2
"""Checkpoints kept: the best and the last."""


@dataclass(frozen=True)
class Training:
    """How a recovery went.

    Args:
        steps: Steps taken; fewer than asked for where it stopped early.
        best_step: Step whose weights the model has.
        before: Held-out loss before the first step, its sum and its terms; empty without held-out triplets.
        after: Likewise of the best step.
        curve: Held-out loss by step, from before the first.
        learning_rate: Highest learning rate.
        held: Weights that were held at zero.
        processes: How many processes trained.
        seconds: Time it took, without what was done before an interruption.
    """

    steps: int
    best_step: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    learning_rate: float
    held: int
    processes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for the provenance."""
        return asdict(self)


def check_extras(options: RecoveryOptions) -> None:
    """Check that the optional dependencies that ``options`` need are there.

    Raises:
        MissingExtraError: If one is not.
    """
    if options.lora:
        check_lora()


def train(
    model: SentenceTransformer,
    corpus: Corpus,
    options: RecoveryOptions,
    *,
    prompts: Prompts,
    zeros: Mapping[str, Tensor],
    checkpoints: Path,
    teacher: Teacher | None = None,
    resume_from: Path | None = None,
    label: str = "Recovering",
) -> Training:
    """Retrain ``model`` in place, with its zeros held.

    It is trained in float32 (or with bfloat16 autocast) and has its own type and evaluation mode again afterwards. The
    weights of the step with the lowest held-out loss are taken, the last ones without held-out triplets.

    Args:
        model: What is trained.
        corpus: What it is trained on.
        options: How.
        prompts: Put before queries and passages.
        zeros: Weights held at zero, ``(out, in)`` by name of the matrix.
        checkpoints: Folder for checkpoints.
        teacher: What is distilled from, with ``distil``.
        resume_from: Checkpoint to go on from.
        label: Name in the progress bar.

    Raises:
        ConfigError: If the device or the number of processes does not fit.
        SignalError: If a loss is not finite.
    """
    from gaprune.recovery.hold import HoldZeros
    from gaprune.recovery.objective import Objective, make_loss
    from gaprune.recovery.trainer import EvaluateLast, Patience, ProgressBar, RecoveryTrainer

    start = time.perf_counter()
    arguments = _arguments(model, corpus, options, prompts, checkpoints, resumed=resume_from is not None)
    parts = arguments.world_size
    holder = HoldZeros(matrices(model), zeros)
    triplets, batches = corpus.plan(options)
    held_out, _ = corpus.looked_at(options, parts)
    with ExitStack() as stack:
        stack.enter_context(_in_float32(model))
        if options.lora:
            stack.enter_context(low_rank(model, matrices(model), zeros, rank=options.lora, seed=options.seed))
        if options.gradient_checkpointing:
            _checkpoint_gradients(model, stack)
        callbacks: list[TrainerCallback] = [EvaluateLast(), *(() if options.lora else (holder,))]
        if options.patience is not None:
            callbacks.append(Patience(options.patience))
        trainer = RecoveryTrainer(
            model=model,
            args=arguments,
            train_dataset=corpus.data_set(triplets, teacher),
            eval_dataset=None if held_out is None else corpus.data_set(held_out, teacher),
            loss=make_loss(model, Objective(options, teacher, several=parts > 1)),
            callbacks=callbacks,
            batches=_parted(batches, parts),
        )
        stack.callback(holder.release)
        display = stack.enter_context(bars())
        trainer.add_callback(ProgressBar(display, options.steps, label))
        trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    _require_zeros(model, zeros)
    looks = [line for line in trainer.state.log_history if "eval_loss" in line]
    best_step = trainer.state.best_global_step or trainer.state.global_step
    return Training(
        steps=trainer.state.global_step,
        best_step=best_step,
        before=_terms(looks[0]) if looks else {},
        after=next((_terms(line) for line in looks if line["step"] == best_step), {}),
        curve=tuple((int(line["step"]), line["eval_loss"]) for line in looks),
        learning_rate=options.rate,
        held=sum(int(each.sum()) for each in zeros.values()),
        processes=parts,
        seconds=time.perf_counter() - start,
    )


def _arguments(
    model: SentenceTransformer,
    corpus: Corpus,
    options: RecoveryOptions,
    prompts: Prompts,
    checkpoints: Path,
    *,
    resumed: bool,
) -> SentenceTransformerTrainingArguments:
    """Return what the trainer is told."""
    from accelerate import PartialState
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.base.modules import Router

    on_cpu = model.device.type == "cpu"
    parts = PartialState(cpu=on_cpu).num_processes
    held, held_batch = corpus.looked_at(options, parts)
    routed = any(isinstance(module, Router) for module in model.children())
    tasks = {"query": "query", "passage": "document"}
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
        save_strategy="steps",
        save_steps=options.evaluate_every,
        save_total_limit=_KEPT,
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
        router_mapping={column: tasks[role] for column, role in corpus.columns.items()} if routed else {},
    )
    if arguments.n_gpu > 1:
        raise ConfigError(
            f"device: one process sees {arguments.n_gpu} devices, and in-batch negatives need a process for each.",
            "Start it with torchrun or accelerate launch, or show one device: CUDA_VISIBLE_DEVICES=0.",
        )
    return arguments


@contextmanager
def _in_float32(model: SentenceTransformer) -> Iterator[None]:
    """Hold the weights in float32, differentiated, and give them their own types back."""
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    own = {name: value.dtype for name, value in (*model.named_parameters(), *model.named_buffers())}
    model.float().requires_grad_()
    try:
        yield
    finally:
        model.eval()
        model.zero_grad(set_to_none=True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(required[name])
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            value.data = value.data.to(own[name])


def _checkpoint_gradients(model: SentenceTransformer, stack: ExitStack) -> None:
    transformer = model.transformers_model
    if transformer is None or not transformer.supports_gradient_checkpointing:
        raise ModelError(
            f"gradient_checkpointing: a {type(transformer).__name__} cannot recompute its activations.",
            "Use --mini-batch-size instead.",
        )
    transformer.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    stack.callback(transformer.activation_checkpointing_disable)


def _parted(batches: list[list[int]], parts: int) -> list[list[int]]:
    """Cut every batch into one part a process, which take them in turn."""
    size = len(batches[0]) // parts
    return [batch[start : start + size] for batch in batches for start in range(0, len(batch), size)]


def _terms(line: Mapping[str, float]) -> dict[str, float]:
    """Return the held-out loss of a line of the log, and its terms, which the trainer rounds to four digits."""
    return {name: line[f"eval_{name}"] for name in ("loss", *TERMS) if f"eval_{name}" in line}


def _require_zeros(model: SentenceTransformer, zeros: Mapping[str, Tensor]) -> None:
    """Fail if a zero was lost: that would be a fault of ours."""
    now = zeros_of(matrices(model))
    for name, held in zeros.items():
        if name not in now or (held.to(now[name].device) & ~now[name]).any():
            raise RuntimeError(f"{name}: retraining has lost zeros")
