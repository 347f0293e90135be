"""Options of the measurement of calibration statistics."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gaprune.config.options import Options, Size, Source

FisherKind = Literal["triplet", "batch"]
Negatives = Literal["in-batch", "explicit"]
Placement = Literal["whole", "offload", "shard"]
Sampling = Literal["random", "kmeans"]
Precision = Literal["auto", "float32", "bfloat16"]


class MeasurementOptions(Options):
    """How calibration statistics are measured."""

    sampling: Sampling = Field(
        "random",
        description="How triplets are drawn: at random, or by k-means over the parent's query embeddings, as in the "
        "paper.",
    )
    fisher: FisherKind = Field(
        "triplet",
        description="Fisher information from the gradient of each triplet, or of batches of 4 as in the paper's code.",
    )
    negatives: Negatives = Field(
        "in-batch",
        description="in-batch: all passages of the batch are negatives; explicit: only those of the triplet itself.",
    )
    temperature: float = Field(0.05, gt=0, description="InfoNCE temperature on cosine similarities.")
    batch_size: int | None = Field(
        None, ge=1, description="Triplets per batch; default: 16, or 4 (the paper's) with fisher=batch."
    )
    seed: int = Field(0, description="Seed of every random choice: sampling, order of triplets, random criterion.")
    device: str | None = Field(None, description="Torch device; default: chosen by sentence-transformers.")
    precision: Precision = Field(
        "auto",
        description="Matrix products while texts run through the model: float32, bfloat16 (with float32 sums), or "
        "auto: bfloat16 if the hardware has it and the embeddings of a few texts hardly change.",
    )
    placement: Placement = Field(
        "whole",
        description="Weights during the measurement: whole (on the device), offload (on the host, copied to the "
        "device when needed) or shard (spread over the processes).",
    )
    memory_budget: Size | None = Field(
        None,
        description="Memory for the measurement beside the model, such as 8GB; default: most of what is free.",
    )
    checkpoint: Source | None = Field(
        None, description="Folder for intermediate statistics, so that a run that was killed can be resumed."
    )
    checkpoint_every: float = Field(180.0, ge=0, description="Seconds between two checkpoints.")
    resume: bool = Field(False, description="Continue from the statistics in the checkpoint folder.")

    @model_validator(mode="after")
    def _check_resume(self) -> Self:
        if self.resume and self.checkpoint is None:
            raise ValueError("resume: there is nothing to resume; name the folder with --checkpoint")
        if self.gives("checkpoint_every") and self.checkpoint is None:
            raise ValueError(
                "checkpoint_every: nothing is kept without a folder; leave it out, or name one: checkpoint"
            )
        return self

    @property
    def triplets_per_batch(self) -> int:
        """The batch size, with its default filled in."""
        return self.batch_size or (4 if self.fisher == "batch" else 16)
