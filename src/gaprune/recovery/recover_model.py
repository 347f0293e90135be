"""One recovery: a model with zeros is trained in place, with its zeros masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError
from gaprune.models.attention import differentiable_attention
from gaprune.models.linear_layers import linear_layers
from gaprune.recovery.arguments import gradient_checkpointing, training_arguments
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import RecoveryData, data_set
from gaprune.recovery.lora import low_rank
from gaprune.recovery.masked_training import (
    check_masked,
    in_float32,
    masked_layers,
    masked_training,
    without_dropout,
    zero_masks,
)
from gaprune.recovery.teacher import Teacher
from gaprune.recovery.text_data import TextData
from gaprune.util.progress import say, stage
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerState

_TERMS = ("contrastive", "embedding", "similarity")
"""Names of the terms of the loss."""


class Point(Record):
    """A look at a distillation on texts.

    Args:
        step: Steps taken.
        tokens: Tokens trained on so far.
        loss: Loss in training since the last look, its sum over all terms; ``None`` before the first step.
        training_cosine: Mean cosine to the parent's embeddings in training since the last look, to four digits.
        held_out_cosine: Mean cosine to the parent's embeddings on held-out texts.
        held_out_ndcg: nDCG@10 of the held-out queries among the held-out passages; a query's own passage is relevant.
            ``None`` if it was not computed.
    """

    step: int
    tokens: int
    loss: float | None = None
    training_cosine: float | None = None
    held_out_cosine: float
    held_out_ndcg: float | None = None


class Training(Record):
    """How a recovery went.

    Args:
        steps: Steps taken; fewer than asked for if it stopped early.
        best_step: Step whose weights the model has.
        before: Held-out loss before the first step, its sum and its terms; empty without held-out triplets.
        after: The same at the best step.
        curve: Held-out loss by step, from before the first.
        learning_rate: Highest learning rate.
        masked_weights: Number of weights that were kept at zero.
        held_out_triplets: Number of triplets that the held-out loss is computed on.
        processes: Number of processes that trained.
        seconds: Time of the training, with that before an interruption up to the last checkpoint.
        distillation: Looks at a distillation on texts, from before the first step.
    """

    steps: int
    best_step: int
    before: dict[str, float]
    after: dict[str, float]
    curve: tuple[tuple[int, float], ...]
    learning_rate: float
    masked_weights: int
    held_out_triplets: int
    processes: int
    seconds: float
    distillation: tuple[Point, ...] = ()


def recover_model(
    model: SentenceTransformer,
    data: RecoveryData | TextData,
    options: RecoveryOptions,
    checkpoints: Checkpoints,
    *,
    teacher: Teacher | None = None,
    seconds: float | None = None,
    prepared: float = 0.0,
    label: str = "Recovering",
) -> Training:
    """Train ``model`` in place; its weights that are zero stay zero.

    It is trained in float32 (or with bfloat16 autocast), for at most ``seconds`` if they are given, of which
    ``prepared`` were spent before, and has its own dtype and evaluation mode again afterwards. It gets the weights of
    the step with the lowest held-out loss, or the last ones without held-out texts.

    Raises:
        ConfigError: If the device, its memory or the number of processes does not suffice.
        ModelError: If the model cannot be trained as asked for.
        OutputError: If a checkpoint cannot be written.
        MeasurementError: If a loss is not finite.
        RuntimeError: If a masked weight is not zero afterwards, which is a fault of the program.
    """
    from transformers import TrainerState

    from gaprune.recovery.losses import RecoveryLoss, make_loss
    from gaprune.recovery.trainer import RecoveryTrainer, Steering, has_ended

    arguments = training_arguments(model, data, options, checkpoints)
    processes = arguments.world_size
    layers, masks = linear_layers(model), zero_masks(masked_layers(model, options.targets))
    triplets, batches = data.plan(options)
    held_out, _ = data.held_out_batches(options, processes)
    resumed = checkpoints.last(processes)
    if resumed is not None:
        state = TrainerState.load_from_json(str(resumed / "trainer_state.json"))
        if has_ended(state, options.patience):  # it was interrupted after its last step
            batches, arguments.max_steps = batches[: state.global_step], state.global_step
    with ExitStack() as stack:
        stack.enter_context(_explained_memory())
        stack.enter_context(in_float32(model))
        stack.enter_context(differentiable_attention(model.device))
        if isinstance(data, TextData):
            stack.enter_context(without_dropout(model))
        trained = low_rank(model, layers, masks, options) if options.lora else masked_training(layers, masks)
        after_step = stack.enter_context(trained)
        if options.gradient_checkpointing:
            stack.enter_context(gradient_checkpointing(model))
        shown = stack.enter_context(stage(label, total=options.steps))
        steering = Steering(shown, options.patience, seconds, prepared)
        trainer = RecoveryTrainer(
            model=model,
            args=arguments,
            train_dataset=data_set(triplets, data.columns, teacher),
            eval_dataset=None if held_out is None else data_set(held_out, data.columns, teacher),
            loss=make_loss(model, RecoveryLoss(options, teacher, gather=processes > 1)),
            callbacks=[steering],
            batches=_split(batches, processes),
            after_step=after_step,
        )
        start_weights = trainer.copy_weights() if isinstance(data, TextData) and held_out is not None else None
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        trainer.accelerator.wait_for_everyone()  # until the first process has written the last checkpoint
        best_step = trainer.state.best_global_step or trainer.state.global_step
        if start_weights is not None and _is_start_best(trainer.state):
            best_step = 0
            trainer.put_weights(start_weights)
        elif trainer.state.best_global_step:
            trainer.read_weights(checkpoints.folder / f"checkpoint-{best_step}")
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    _say_how_it_ended(trainer.state, label, options, best_step)
    return Training(
        **_losses(trainer.state, best_step),
        learning_rate=options.rate,
        masked_weights=check_masked(model, masks),
        held_out_triplets=len(held_out or ()),
        processes=processes,
        seconds=steering.spent,
        distillation=_points(trainer.state, data, options) if isinstance(data, TextData) else (),
    )


def _say_how_it_ended(state: TrainerState, label: str, options: RecoveryOptions, best_step: int) -> None:
    """Say if a training ended early, and why, or changed nothing."""
    from gaprune.recovery.trainer import is_out_of_patience

    if state.global_step < options.steps:
        patient = is_out_of_patience(state, options.patience)
        reason = f"{options.patience} held-out losses brought no improvement" if patient else "the time was over"
        say(f"{label} ended after {state.global_step} of {options.steps} steps: {reason}.")
    if best_step == 0:
        say(f"{label} gained nothing: no later held-out loss is below the first, so the weights from before are kept.")


def _is_start_best(state: TrainerState) -> bool:
    """Return whether no held-out loss is lower than that before the first step."""
    losses = [line["eval_loss"] for line in state.log_history if "eval_loss" in line]
    return bool(losses) and losses[0] <= min(losses)


def _losses(state: TrainerState, best_step: int) -> dict[str, Any]:
    """Return steps and held-out losses from the trainer's log, which rounds the terms to four digits."""
    lines = [line for line in state.log_history if "eval_loss" in line]

    def terms(line: Mapping[str, float]) -> dict[str, float]:
        return {name: line[f"eval_{name}"] for name in ("loss", *_TERMS) if f"eval_{name}" in line}

    return {
        "steps": state.global_step,
        "best_step": best_step,
        "before": terms(lines[0]) if lines else {},
        "after": next((terms(line) for line in lines if line["step"] == best_step), {}),
        "curve": tuple((int(line["step"]), line["eval_loss"]) for line in lines),
    }


def _points(state: TrainerState, data: TextData, options: RecoveryOptions) -> tuple[Point, ...]:
    """Return the looks at a distillation, from the trainer's log."""
    trained = {int(line["step"]): line for line in state.log_history if "loss" in line}
    ranked = {int(line["step"]): line["eval_ndcg"] for line in state.log_history if "eval_ndcg" in line}
    points = []
    for line in state.log_history:
        if "eval_loss" in line:
            step = int(line["step"])
            since: Mapping[str, float] = trained.get(step, {})
            point = Point(
                step=step,
                tokens=data.tokens_at(step),
                loss=since.get("loss"),
                training_cosine=1 - since["embedding"] / options.embedding_weight if "embedding" in since else None,
                held_out_cosine=1 - line["eval_loss"],
                held_out_ndcg=ranked.get(step),
            )
            points.append(point)
    return tuple(points)


@contextmanager
def _explained_memory() -> Iterator[None]:
    """Say which options need less memory if the device's does not suffice."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise ConfigError(
            f"device: its memory does not suffice: {str(error).partition(chr(10))[0]}",
            "Lower batch_size, or use mini_batch_size, gradient_checkpointing, bf16 or lora (--set name=value; for "
            "`gaprune prune`, --set recovery.name=value).",
        ) from error


def _split(batches: list[list[int]], processes: int) -> list[list[int]]:
    """Split every batch into one part per process; the processes take the parts in turn."""
    size = len(batches[0]) // processes
    return [batch[start : start + size] for batch in batches for start in range(0, len(batch), size)]
