"""The trainer of sentence-transformers with planned batches, small checkpoints and errors with a way out.

Only this module of the room uses names of other libraries that are not public: ``_save_checkpoint`` and
``_load_from_checkpoint`` of the Trainer (transformers 5.23, sentence-transformers 6.2), and of LoraConfig (peft 0.21)
``_register_custom_module``. It imports sentence-transformers: import it only to train.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState, PrinterCallback

from gaprune.errors import MeasurementError, OutputError
from gaprune.util.tensor_store import StoredTensors, write_tensors

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from gaprune.util.progress import Stage

_WEIGHTS = "trained.safetensors"

_ROOM = (
    "Make room for three checkpoints of up to 12 bytes per trained weight, or name another folder with "
    "--set checkpoint=FOLDER (for `gaprune prune`, another --out or TMPDIR)."
)

_FULL_DISK = "PytorchStreamWriter"
"""Part of the message of torch.save if the disk is full."""


class _PlannedBatches(DefaultBatchSampler):
    """Batches that were planned before training."""

    def __init__(self, dataset: Dataset, batches: Sequence[list[int]]) -> None:
        super().__init__(dataset, batch_size=len(batches[0]), drop_last=False)
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class RecoveryTrainer(SentenceTransformerTrainer):
    """Trains on planned batches and writes checkpoints of the trained weights alone."""

    def __init__(
        self, *, batches: Sequence[list[int]], after_step: Callable[..., None] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.batches, self.after_step = batches, after_step
        self.processing_class = None  # else the trainer changes the model's configuration to match its tokenizer
        self.remove_callback(PrinterCallback)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Do nothing: GAPrune writes the card."""

    def get_batch_sampler(self, dataset: Dataset, batch_size: int, *_: Any, **__: Any) -> DefaultBatchSampler:
        """Return the planned batches of the training triplets, or the held-out triplets in their order."""
        if dataset is self.train_dataset:
            return _PlannedBatches(dataset, self.batches)
        rows = list(range(len(dataset)))
        return _PlannedBatches(dataset, [rows[start : start + batch_size] for start in rows[::batch_size]])

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """Return the optimiser."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args)
        if self.after_step is not None:
            optimizer.register_step_post_hook(self.after_step)
        return optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Compute loss and gradients of a step.

        Raises:
            MeasurementError: If the loss is not finite.
        """
        loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        if not torch.isfinite(loss):
            raise MeasurementError(
                f"The loss of step {self.state.global_step + 1} is not finite.",
                "Lower --learning-rate, or compute in float32 (without --bf16).",
            )
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate on the held-out data; of a distillation on texts, the nDCG of the held-out pairs is logged too."""
        found: dict[str, float] = super().evaluate(*args, **kwargs)
        loss: Any = self.loss
        ndcg = loss.recovery.ndcg()
        if ndcg is not None:
            self.log({"eval_ndcg": ndcg})
        return found

    def _trained(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _FULL_DISK not in str(error):
                raise
            reason = str(error).partition("\n")[0]
            raise OutputError(f"A checkpoint cannot be written to {self.args.output_dir}: {reason}", _ROOM) from error

    def save_model(self, output_dir: str | None = None, *_: Any, **__: Any) -> None:
        """Write the trained weights; the others are in the folder of the model that is recovered."""
        if self.args.should_save:
            write_tensors(Path(output_dir or str(self.args.output_dir)) / _WEIGHTS, self._trained(), remedy=_ROOM)

    def copy_weights(self) -> dict[str, Tensor]:
        """Return a copy of the trained weights as they are now."""
        return {name: value.clone() for name, value in self._trained().items()}

    def read_weights(self, checkpoint: Path) -> None:
        """Read the trained weights of a checkpoint into the model."""
        self.put_weights(StoredTensors(checkpoint / _WEIGHTS))

    @torch.no_grad()
    def put_weights(self, kept: Mapping[str, Tensor] | StoredTensors) -> None:
        """Put trained weights into the model."""
        for name, parameter in self._trained().items():
            parameter.copy_(kept[name])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any) -> None:
        self.read_weights(Path(resume_from_checkpoint))


def use_lora_layer(config: Any, layer: type[nn.Module]) -> None:
    """Let peft put ``layer`` in place of linear layers for the adapters of ``config``."""
    config._register_custom_module({nn.Linear: layer})  # noqa: SLF001


def is_out_of_patience(state: TrainerState, patience: int | None) -> bool:
    """Return whether the last ``patience`` held-out losses were not better than the best one before them.

    They are counted in the log, which checkpoints keep: the callback of transformers starts to count again in a run
    that is resumed.
    """
    best, since = float("inf"), 0
    for line in state.log_history:
        if line.get("step", 0) > 0 and "eval_loss" in line:
            since = 0 if line["eval_loss"] < best else since + 1
            best = min(best, line["eval_loss"])
    return patience is not None and since >= patience


def has_ended(state: TrainerState, patience: int | None) -> bool:
    """Return whether a training of which this is the last checkpoint had run out of patience or time."""
    return is_out_of_patience(state, patience) or bool(_kept(state).get("is_over"))


def _kept(state: TrainerState) -> dict[str, Any]:
    """Return what :class:`Steering` kept in a checkpoint; nothing before the first."""
    kept: Any = state.stateful_callbacks if state.global_step else {}
    return dict(kept.get(Steering.__name__, {}).get("attributes", {}))


class Steering(TrainerCallback, ExportableState):
    """Evaluates after the last step, stops if patience or time runs out, and shows how far the training is.

    The time is that of all runs: checkpoints keep how much of it is spent.

    Args:
        shown: Shows how far it is.
        patience: Looks at held-out texts without an improvement after which it stops.
        seconds: After how many it stops, with those of the preparation.
        prepared: Seconds of this run that were spent before the training.
    """

    def __init__(
        self, shown: Stage, patience: int | None, seconds: float | None = None, prepared: float = 0.0
    ) -> None:
        self.shown, self.patience, self.label = shown, patience, shown.description
        self.seconds, self._began, self._before = seconds, time.monotonic(), 0.0
        self._prepared, self._is_over = prepared, False

    @property
    def spent(self) -> float:
        """Seconds of training, with those of the runs that this one continues up to their last checkpoint."""
        return self._before + time.monotonic() - self._began

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, in the form of transformers."""
        found = {"spent": self.spent, "prepared": self._prepared, "is_over": self._is_over}
        return {"args": {}, "attributes": found}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Read from the checkpoint how much time is spent."""
        del args, control
        kept = _kept(state)
        self._before = float(kept.get("spent", 0.0))
        self._prepared += float(kept.get("prepared", 0.0))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the step, and ask for an evaluation and a checkpoint after the last one."""
        self.shown.update(state.global_step)
        self._is_over = self.seconds is not None and self._prepared + self.spent > self.seconds
        if self._is_over or state.global_step >= state.max_steps:
            control.should_training_stop = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the held-out loss, and stop if patience has run out."""
        del args
        loss = kwargs["metrics"].get("eval_loss")
        if loss is not None:
            self.shown.update(description=f"{self.label} (held-out loss {loss:.4f})")
        control.should_training_stop = control.should_training_stop or is_out_of_patience(state, self.patience)
