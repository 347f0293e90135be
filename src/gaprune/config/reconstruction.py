"""Options that say how what stays is refit."""

from __future__ import annotations

from pydantic import Field, field_validator

from gaprune.config.options import Fractions, Options

__all__ = ["ReconstructionOptions"]


class ReconstructionOptions(Options):
    """How what stays is refit to make up for what went."""

    reconstruct: bool | None = Field(
        None, description="Refit what stays by least squares; default: where domain data are named."
    )
    ridge: Fractions = Field(
        (0.1,),
        description="Repair: pull towards the original weights, in mean squares of inputs; of several the best stays.",
    )
    reconstruction_triplets: int = Field(
        128, ge=1, description="Repair: triplets of each kind that it is fitted on, and half as many to judge it on."
    )
    general_share: float = Field(
        0.3, ge=0, lt=1, description="Repair: share of general texts, where general data are named."
    )

    @field_validator("ridge")
    @classmethod
    def _pulls(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or min(values) <= 0:
            raise ValueError("needs one or more values above 0, such as 0.1")
        return values
