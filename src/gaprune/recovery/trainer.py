"""The trainer of sentence-transformers, with planned batches, small exact checkpoints, and no silence about faults.

This module imports sentence-transformers and accelerate: import it where a model is trained, not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from gaprune.errors import MeasurementError, OutputError

if TYPE_CHECKING:
    from datasets import Dataset
    from rich.progress import Progress, TaskID
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["BestHere", "EvaluateLast", "Patience", "ProgressBar", "RecoveryTrainer"]

_WEIGHTS = "trained.safetensors"

_FULL_DISK = "PytorchStreamWriter"
"""Stands in what torch.save says of a disk that is full."""


class _Planned(DefaultBatchSampler):
    """Batches that were decided beforehand."""

    def __init__(self, dataset: Dataset, batches: list[list[int]]) -> None:
        super().__init__(dataset, batch_size=len(batches[0]), drop_last=False)
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class RecoveryTrainer(SentenceTransformerTrainer):
    """Trains in the order that was planned.

    Args:
        batches: Triplets of every batch, batches of several processes one after another.
        options: Of the trainer.
    """

    def __init__(self, *, batches: list[list[int]], **options: Any) -> None:
        super().__init__(**options)
        self.batches = batches
        self.processing_class = None  # or the trainer changes the model's configuration to what its tokenizer says
        self.remove_callback(PrinterCallback)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Do nothing: the card is ours."""

    def get_batch_sampler(self, dataset: Dataset, batch_size: int, *args: Any, **kwargs: Any) -> DefaultBatchSampler:
        """Return the planned batches for what is trained on, and the order of the data for what is held out."""
        del args, kwargs
        if dataset is self.train_dataset:
            return _Planned(dataset, self.batches)
        rows = list(range(len(dataset)))
        return _Planned(dataset, [rows[start : start + batch_size] for start in rows[::batch_size]])

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Take a step.

        Raises:
            SignalError: If the loss is not finite.
        """
        loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        if not torch.isfinite(loss):
            raise MeasurementError(
                f"The loss of step {self.state.global_step + 1} is not finite.",
                "Lower --learning-rate, or compute in float32 (without --bf16).",
            )
        return loss

    def _trained(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: If it cannot be written.
        """
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _FULL_DISK not in str(error):
                raise
            several = (self.args.save_total_limit or 0) + 1
            raise OutputError(
                f"A checkpoint cannot be written to {self.args.output_dir}: {str(error).partition(chr(10))[0]}",
                f"Make room there for {several} (of up to 12 bytes for each weight that is trained), or name another "
                "folder with --checkpoints (for `gaprune prune`, another --out or TMPDIR).",
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what is trained; everything else is in the folder that is recovered."""
        del state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self._trained().items()}, folder / _WEIGHTS)

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        del model
        kept = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        for name, parameter in self._trained().items():
            parameter.copy_(kept[name])

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if not self.control.should_training_stop:  # a run that was to stop where it was ended takes no more steps
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]


class BestHere(TrainerCallback):
    """Finds the best checkpoint among those that are here, where they were moved since, too."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Name it."""
        del control, kwargs
        if state.best_global_step:
            state.best_model_checkpoint = str(Path(str(args.output_dir)) / f"checkpoint-{state.best_global_step}")


class EvaluateLast(TrainerCallback):
    """Looks at the held-out loss after the last step too, whatever the interval is."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for it."""
        del kwargs
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True


class Patience(TrainerCallback):
    """Stops after so many held-out losses without a better one, counted in what the checkpoints keep.

    The callback of transformers that does this counts anew where a run goes on, which then ends later.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def _spent(self, state: TrainerState) -> bool:
        best, since = float("inf"), 0
        for line in state.log_history:
            if line.get("step", 0) > 0 and "eval_loss" in line:
                since = 0 if line["eval_loss"] < best else since + 1
                best = min(best, line["eval_loss"])
        return since >= self.patience

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take no step where a run goes on that was to stop."""
        del args, kwargs
        control.should_training_stop = self._spent(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop, perhaps."""
        del args, kwargs
        control.should_training_stop = control.should_training_stop or self._spent(state)


class ProgressBar(TrainerCallback):
    """A progress bar over the steps, with the held-out loss."""

    def __init__(self, display: Progress, steps: int, name: str) -> None:
        self.display = display
        self.name = name
        self.task: TaskID = display.add_task(name, total=steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance."""
        del args, control, kwargs
        self.display.update(self.task, completed=state.global_step)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the held-out loss."""
        del args, state, control
        loss = kwargs["metrics"].get("eval_loss")
        if loss is not None:
            self.display.update(self.task, description=f"{self.name} (held-out loss {loss:.4f})")
