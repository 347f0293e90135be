"""Options that say how signals are measured."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gaprune.config.options import Options, Source
from gaprune.util.memory import parse_bytes

__all__ = ["FisherKind", "MeasurementOptions", "Negatives", "Placement"]

FisherKind = Literal["triplet", "batch"]
Negatives = Literal["in-batch", "explicit"]
Placement = Literal["whole", "offload", "shard"]


class MeasurementOptions(Options):
    """How signals are measured."""

    fisher: FisherKind = Field(
        "triplet",
        description="Fisher from per-triplet gradients, or from whole batches of 4 as the paper's release does.",
    )
    negatives: Negatives = Field(
        "in-batch", description="Candidates of a query: all passages of the batch, or its own triplet's alone."
    )
    temperature: float = Field(0.05, gt=0, description="InfoNCE temperature on cosine similarities.")
    batch_size: int | None = Field(
        None, ge=1, description="Triplets a batch; default: 16, or 4 (the paper's) with --fisher batch."
    )
    seed: int = Field(0, description="Seed of every random choice: sampling, order of triplets, random criterion.")
    device: str | None = Field(None, description="Torch device; chosen by sentence-transformers by default.")
    placement: Placement = Field(
        "whole",
        description="Weights while measuring: whole on the device, offload (on the host, brought to the device when "
        "needed) or shard (spread over the processes).",
    )
    memory_budget: str | None = Field(
        None,
        description="Memory that measuring may take beside the model, such as 8GB; default: most of what is free.",
    )
    checkpoint: Source | None = Field(
        None, description="Keep what was measured in this folder, so that a killed run can be resumed."
    )
    checkpoint_every: float = Field(180.0, ge=0, description="Seconds of measuring between two checkpoints.")
    resume: bool = Field(False, description="Continue with what --checkpoint holds, as far as it fits the run.")

    @field_validator("memory_budget")
    @classmethod
    def _amount(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value

    @model_validator(mode="after")
    def _resume_something(self) -> Self:
        if self.resume and self.checkpoint is None:
            raise ValueError("resume: there is nothing to resume; name the folder with --checkpoint")
        return self

    @property
    def triplets_per_batch(self) -> int:
        """The batch size, resolved."""
        return self.batch_size or (4 if self.fisher == "batch" else 16)
