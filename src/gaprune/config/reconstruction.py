"""Options of the least-squares reconstruction."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from gaprune.config.options import Options, Values


class ReconstructionOptions(Options):
    """How kept weights are changed to make up for pruned ones."""

    group: ClassVar[str] = "Reconstruction and recovery"

    reconstruct: bool | None = Field(
        None,
        description="Fit the kept weights to the parent's outputs by least squares; default: yes, if domain data are "
        "named.",
    )
    ridge: Values = Field(
        (0.1,),
        description="Ridge of the least squares, relative to the variance of each input; of several values the one "
        "with the lowest held-out loss is used.",
    )
    reconstruction_triplets: int = Field(
        128, ge=1, description="Triplets of each kind to fit on; half as many are held out to judge the fit."
    )
    general_share: float = Field(
        0.3, ge=0, lt=1, description="Share of general texts in the fit, if general data are named."
    )
    layer_triplets: int = Field(
        64,
        ge=1,
        description="Depth: triplets of each kind to measure the effect of a layer on; held-out ones if the run "
        "reconstructs.",
    )

    @model_validator(mode="after")
    def _check_reconstruction(self) -> Self:
        if not self.ridge or min(self.ridge) <= 0:
            raise ValueError("ridge: one or more values above 0 are needed, such as 0.1")
        if self.reconstruct is False:
            for option in ("ridge", "reconstruction_triplets", "general_share"):
                if self.differs(option):
                    raise ValueError(f"{option}: reconstruction is switched off, so this has no effect; leave it out")
        return self
