"""All options of a recovery."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from gaprune.config.data import DataOptions
from gaprune.config.options import CommandOptions, Number, Options, OutputOptions, Source, Words
from gaprune.errors import ConfigError

MOST_HELD_OUT = 512
"""Maximum number of held-out triplets: each evaluation embeds them again."""

_RATE = 1e-4
"""Default highest learning rate: docs/recover.md says why."""

_LOW_RANK_RATE = 5e-4
"""Default highest learning rate of low-rank updates."""

OF_TRIPLETS = ("steps", "contrastive_weight", "temperature", "fixed_targets", "hard_negatives")
"""Options that a distillation on texts does not read."""

_GENERAL_SHARE = 0.25
"""Default share of general triplets or texts, if general data are named."""


class ModelOptions(Options):
    """The model to recover."""

    group: ClassVar[str] = "Input"

    model: Source | None = Field(None, description="Model to recover: a folder that GAPrune wrote, or any other.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the models.")
    max_length: int | None = Field(
        None, ge=1, description="Truncate texts to this many tokens in training; default: the model's limit."
    )


class DistillationOptions(Options):
    """Learning from the parent."""

    group: ClassVar[str] = "Distillation"

    distil: bool = Field(False, description="Distil from the parent too; this needs no labels.")
    parent: Source | None = Field(
        None, description="Model to distil from; default: the parent that gaprune.json names, if its weights agree."
    )
    embedding_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of the distance (1 - cosine) to the parent's embeddings, with --distil or --texts.",
    )
    fixed_targets: bool = Field(
        False,
        description="Contrast the queries with the parent's embeddings of the passages, with --distil: the model "
        "remains usable with the parent's index.",
    )
    similarity_weight: float = Field(
        10.0,
        ge=0,
        description="Weight of the mean square difference to the parent's similarities within a batch, with --distil "
        "or --texts.",
    )
    teacher_cache: Source | None = Field(
        None, description="Folder for the parent's embeddings; default: gaprune in the user's cache."
    )


class TrainingOptions(Options):
    """How the model is trained."""

    group: ClassVar[str] = "Training"

    texts: Source | None = Field(
        None,
        description="Distil from the parent on these texts first: documents or triplets, a file or a folder.",
    )
    tokens: Number | None = Field(
        None, ge=1, description="Tokens to distil on, such as 20M, with --texts; default: three passes over the texts."
    )
    minutes: float | None = Field(
        None, gt=0, description="Time of all training, with --texts: as many tokens as it is enough for."
    )
    targets: Words | None = Field(
        None, description="Linear layers whose zeros are kept, in the words of `gaprune prune`; default: all."
    )
    steps: int = Field(100, ge=1, description="Optimiser steps on triplets.")
    batch_size: int = Field(32, ge=2, description="Triplets per step, over all processes together.")
    mini_batch_size: int | None = Field(
        None, ge=1, description="Embed so many texts at a time (cached loss): less memory, same result, more time."
    )
    hard_negatives: int | None = Field(
        None,
        ge=0,
        description="Negatives of its own that each query is trained with, beside those of the batch; default: 0, "
        "or 1 if negatives are mined.",
    )
    general_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description=f"Share of general triplets; default: {_GENERAL_SHARE:g} if general data are named, else 0.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description=f"Highest learning rate; default: {_RATE:g}, with LoRA {_LOW_RANK_RATE:g}.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    temperature: float = Field(0.05, gt=0, description="Temperature of the contrastive loss on cosine similarities.")
    contrastive_weight: float = Field(
        1.0, ge=0, description="Weight of the contrastive loss; 0 with --distil is distillation alone."
    )
    lora: int | None = Field(
        None, ge=1, description="Train low-rank updates (LoRA) of this rank and merge them; needs the extra lora."
    )
    bf16: bool | None = Field(
        None,
        description="Compute in bfloat16 (autocast), weights and optimiser state remain in float32; default: for "
        "--texts where the device computes in it.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time.")
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description=f"Share of the domain's triplets held out to choose the best step, at most {MOST_HELD_OUT}.",
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many held-out losses without an improvement; default: never."
    )


class RecoveryOptions(ModelOptions, DataOptions, TrainingOptions, DistillationOptions, OutputOptions, CommandOptions):
    """All options of a recovery."""

    command: ClassVar[str] = "recover"
    group: ClassVar[str] = "Running"

    device: str | None = Field(None, description="Torch device; default: chosen by sentence-transformers.")
    checkpoint: Source | None = Field(
        None, description="Folder of checkpoints, removed at the end; default: OUT.checkpoints beside the output."
    )
    resume: bool = Field(False, description="Continue from the last checkpoint of a run that was ended.")
    evaluate_every: int = Field(10, ge=1, description="Steps between checkpoints, each with the held-out loss.")
    seed: int = Field(0, description="Seed of the held-out split, of the batches, of dropout and of LoRA.")

    def share_of_general(self, *, named: bool) -> float:
        """Return the share of general triplets, with its default filled in: ``named`` says if there are any."""
        if self.general_share is not None:
            return self.general_share
        return _GENERAL_SHARE if named else 0.0

    @property
    def own_negatives(self) -> int:
        """Negatives of its own that each query is trained with, with the default filled in."""
        return int(self.mine_negatives > 0) if self.hard_negatives is None else self.hard_negatives

    @property
    def rate(self) -> float:
        """The highest learning rate, with its default filled in."""
        return self.learning_rate or (_LOW_RANK_RATE if self.lora else _RATE)

    def refuse_without_triplets(self) -> None:
        """Refuse options of the fine-tuning on triplets, as there are none.

        Raises:
            ConfigError: If there is such an option; it would have no effect.
        """
        for option in OF_TRIPLETS:
            if self.gives(option):
                raise ConfigError(
                    f"{option}: nothing is fine-tuned on triplets, so this has no effect.",
                    "Leave it out, or name triplets with --domain (domain=...).",
                )

    @model_validator(mode="after")
    def _check_losses(self) -> Self:
        for option in ("tokens", "minutes"):
            if self.differs(option) and self.texts is None:
                raise ValueError(f"{option}: nothing is distilled on texts without --texts, so this has no effect")
        if self.distil or self.texts:
            if not self.embedding_weight + self.similarity_weight:
                raise ValueError("distil: both of its weights are 0; leave --distil out")
            if self.fixed_targets and not self.distil:
                raise ValueError("fixed_targets: triplets are not distilled without --distil, so this has no effect")
        elif not self.contrastive_weight:
            raise ValueError("contrastive_weight: 0 leaves nothing to learn without --distil")
        else:
            for option in ("embedding_weight", "similarity_weight", "fixed_targets", "teacher_cache"):
                if self.gives(option):
                    raise ValueError(f"{option}: nothing is distilled without --distil, so this has no effect")
        if self.patience is not None and not self.held_out:
            raise ValueError("patience: there is no held-out loss to wait for if held_out is 0")
        return self
