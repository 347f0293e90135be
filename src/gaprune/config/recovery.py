"""Everything a recovery is told."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from gaprune.config.data import DataOptions
from gaprune.config.options import CommandOptions, Source, Words

__all__ = ["MOST_HELD_OUT", "RecoveryOptions"]

MOST_HELD_OUT = 512
"""Triplets held out at the most: they are embedded again at every look."""

_RATE = 1e-4
"""Highest learning rate where none is given: docs/recover.md says why."""

_LOW_RANK_RATE = 5e-4
"""Likewise, of low-rank updates."""


class RecoveryOptions(DataOptions, CommandOptions):
    """Everything a recovery is told."""

    command: ClassVar[str] = "recover"

    model: Source | None = Field(None, description="Model to recover: a folder that GAPrune wrote, or any other.")
    parent: Source | None = Field(
        None, description="Model to distil from; default: the parent that gaprune.json names, if its weights agree."
    )
    trust_remote_code: bool = Field(False, description="Let code that comes with the models run.")
    device: str | None = Field(None, description="Torch device; chosen by sentence-transformers by default.")
    max_length: int | None = Field(
        None, ge=1, description="Cut texts at this many tokens in training; the model's limit by default."
    )
    targets: Words | None = Field(
        None,
        description="Where zeros are held, in the words of `gaprune prune`; default: everywhere.",
    )
    steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_size: int = Field(32, ge=2, description="Triplets a step, over all processes together.")
    mini_batch_size: int | None = Field(
        None, ge=1, description="Embed so many texts at a time (cached loss): less memory, same result, more time."
    )
    hard_negatives: int | None = Field(
        None,
        ge=0,
        description="Negatives of its own that each query is trained with, beside those of the batch; default: 0, "
        "with --mine-negatives 1.",
    )
    general_ratio: float | None = Field(
        None, ge=0, lt=1, description="Share of general triplets; default: 0.25 where general data are named, else 0."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description=f"Highest learning rate; default: {_RATE:g}, with --lora {_LOW_RANK_RATE:g}.",
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    temperature: float = Field(0.05, gt=0, description="Temperature of the contrastive loss on cosine similarities.")
    contrastive_weight: float = Field(
        1.0, ge=0, description="Weight of the contrastive loss; 0 with --distil is distillation alone."
    )
    distil: bool = Field(False, description="Distil from the parent too; needs no labels.")
    embedding_weight: float = Field(
        1.0, ge=0, description="Weight of the distance (1 - cosine) to the parent's embeddings, with --distil."
    )
    similarity_weight: float = Field(
        10.0,
        ge=0,
        description="Weight of the mean square difference to the parent's similarities within a batch, with --distil.",
    )
    teacher_cache: Source | None = Field(
        None, description="Folder where the parent's embeddings are kept; default: gaprune in the user's cache."
    )
    lora: int | None = Field(
        None, ge=1, description="Train low-rank updates (LoRA) of this rank and merge them; extra lora."
    )
    bf16: bool = Field(False, description="Compute in bfloat16 (autocast); weights and optimiser stay in float32.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, more time.")
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the domain's triplets held out to choose the best step, "
        f"{MOST_HELD_OUT} at the most; 0 for none.",
    )
    evaluate_every: int = Field(10, ge=1, description="Steps between checkpoints, each with the held-out loss.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many held-out losses without a better one; default: never."
    )
    checkpoints: Source | None = Field(
        None, description="Folder of checkpoints, removed at the end; default: OUT.checkpoints beside the output."
    )
    resume: bool = Field(False, description="Go on from the last checkpoint of a run that was ended.")
    seed: int = Field(0, description="Seed of the held-out split, of the batches, of dropout and of LoRA.")
    tasks: Source | None = Field(None, description="Evaluate result and parent on this folder of tasks.")
    out: Source | None = Field(None, description="Write the recovered model to this folder.")
    overwrite: bool = Field(False, description="Replace the model in an output folder that exists.")

    def share_of_general(self, *, named: bool) -> float:
        """Return the share of general triplets, resolved for whether general data are named."""
        if self.general_ratio is not None:
            return self.general_ratio
        return 0.25 if named else 0.0

    @property
    def own_negatives(self) -> int:
        """Negatives of its own that each query is trained with, resolved for whether any are mined."""
        return int(self.mine_negatives > 0) if self.hard_negatives is None else self.hard_negatives

    @property
    def rate(self) -> float:
        """The highest learning rate, resolved for whether all weights are trained."""
        return self.learning_rate or (_LOW_RANK_RATE if self.lora else _RATE)

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if self.distil:
            if not self.embedding_weight + self.similarity_weight:
                raise ValueError("distil: both of its weights are 0; leave --distil out")
        elif not self.contrastive_weight:
            raise ValueError("contrastive_weight: 0 leaves nothing to learn without --distil")
        else:
            for option in ("embedding_weight", "similarity_weight", "teacher_cache"):
                if getattr(self, option) != type(self).model_fields[option].default:
                    raise ValueError(f"{option}: nothing is distilled without --distil, so this has no effect")
        if self.patience is not None and not self.held_out:
            raise ValueError("patience: there is no held-out loss to wait for with --held-out 0")
        return self
