"""One recovery: a model, its zeros and a corpus in, the same model retrained out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError
from gaprune.models.linear_layers import linear_layers
from gaprune.models.prompts import Prompts
from gaprune.recovery.arguments import recomputing, training_arguments
from gaprune.recovery.corpus import Corpus
from gaprune.recovery.held import zeros_of
from gaprune.recovery.lora import low_rank
from gaprune.recovery.teacher import Teacher
from gaprune.util.progress import bars

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerCallback

__all__ = ["Training", "train"]

TERMS = ("contrastive", "embedding", "similarity")
"""Names of the terms of the loss."""


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
        looked_at: Held-out triplets whose loss is taken.
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
    looked_at: int
    processes: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for the provenance."""
        return asdict(self)


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
    resumable: bool = True,
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
        resumable: Whether checkpoints are kept to go on from, too, not for the best step alone.
        label: Name in the progress bar.

    Raises:
        ConfigError: If the device or the number of processes does not fit, or its memory does not suffice.
        ModelError: If the model cannot be trained as asked for.
        OutputError: If a checkpoint cannot be written.
        SignalError: If a loss is not finite.
    """
    from gaprune.recovery.hold import HoldZeros
    from gaprune.recovery.objective import Objective, make_loss
    from gaprune.recovery.trainer import BestHere, EvaluateLast, Patience, ProgressBar, RecoveryTrainer

    start = time.perf_counter()
    arguments = training_arguments(
        model, corpus, options, prompts, checkpoints, resumed=resume_from is not None, resumable=resumable
    )
    parts = arguments.world_size
    holder = HoldZeros(linear_layers(model), zeros)
    triplets, batches = corpus.plan(options)
    held_out, _ = corpus.looked_at(options, parts)
    with ExitStack() as stack:
        stack.enter_context(_enough_memory())
        stack.enter_context(_in_float32(model))
        if options.lora:
            stack.enter_context(low_rank(model, linear_layers(model), zeros, rank=options.lora, seed=options.seed))
        if options.gradient_checkpointing:
            transformer = recomputing(model)
            transformer.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            stack.callback(transformer.activation_checkpointing_disable)
        callbacks: list[TrainerCallback] = [BestHere(), EvaluateLast(), *(() if options.lora else (holder,))]
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
        looked_at=len(held_out or ()),
        processes=parts,
        seconds=time.perf_counter() - start,
    )


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


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Say what to do about memory that does not suffice."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ConfigError(
            f"device: its memory does not suffice: {str(error).partition(chr(10))[0]}",
            "Use --mini-batch-size, --gradient-checkpointing, --bf16, --lora or a smaller --batch-size "
            "(for `gaprune prune`, each as --recover-option name=value).",
        ) from error


def _parted(batches: list[list[int]], parts: int) -> list[list[int]]:
    """Cut every batch into one part a process, which take them in turn."""
    size = len(batches[0]) // parts
    return [batch[start : start + size] for batch in batches for start in range(0, len(batch), size)]


def _terms(line: Mapping[str, float]) -> dict[str, float]:
    """Return the held-out loss of a line of the log, and its terms, which the trainer rounds to four digits."""
    return {name: line[f"eval_{name}"] for name in ("loss", *TERMS) if f"eval_{name}" in line}


def _require_zeros(model: SentenceTransformer, zeros: Mapping[str, Tensor]) -> None:
    """Fail if a zero was lost: that would be a fault of ours."""
    now = zeros_of(linear_layers(model))
    for name, held in zeros.items():
        if name not in now or (held.to(now[name].device) & ~now[name]).any():
            raise RuntimeError(f"{name}: retraining has lost zeros")
