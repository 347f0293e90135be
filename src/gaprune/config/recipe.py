"""The recipe: all options of a pruning run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from gaprune.config.data import DataOptions
from gaprune.config.measurement import MeasurementOptions
from gaprune.config.options import ENCODING_BATCH_SIZE, CommandOptions, Options, OutputOptions, Source, Values
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.removal import RemovalOptions

Allocation = Literal["global", "layer", "matrix", "row"]


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
        128,
        ge=1,
        description="Triplets of each kind to fit on; half as many or fewer are held out to judge the fit.",
    )
    general_share: float = Field(
        0.3, ge=0, lt=1, description="Share of general texts in the fit, if general data are named."
    )
    layer_triplets: int = Field(
        32,
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
                if self.gives(option):
                    raise ValueError(f"{option}: reconstruction is switched off, so this has no effect; leave it out")
        return self


class ParentOptions(Options):
    """The parent model."""

    group: ClassVar[str] = "Input"

    model: Source | None = Field(None, description="Parent model: a sentence-transformers folder or hub id.")
    revision: str | None = Field(None, description="Branch, tag or commit of the parent on the hub.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the parent model.")
    dtype: str | None = Field(None, description="Torch dtype to load the parent in; default: its own.")
    max_length: int | None = Field(
        None, ge=1, description="Truncate texts to this many tokens; default: the model's limit."
    )


class CriterionOptions(Options):
    """The importance of weights and units."""

    group: ClassVar[str] = "Criterion"

    criterion: str = Field(
        "dai",
        description="Importance criterion, with constants after its name (dai:tempering=0.6); see gaprune criteria.",
    )
    allocation: Allocation | None = Field(
        None,
        description="Weights compete for the budget within: global, layer, matrix or row; default: the criterion's.",
    )


class RecoveryInRun(Options):
    """Recovery as part of a pruning run."""

    group: ClassVar[str] = "Reconstruction and recovery"

    recover: int = Field(
        0, ge=0, description="Steps of fine-tuning on the domain's triplets after pruning; zeros remain zero."
    )
    rounds: int = Field(
        1, ge=1, description="Alternate pruning and recovery this many times, up to the same sparsity and steps."
    )
    recovery: dict[str, float | str | bool] = Field(
        default_factory=dict, description="Options of gaprune recover for the recovery, such as distil=true."
    )


class Recipe(
    ParentOptions,
    DataOptions,
    RemovalOptions,
    CriterionOptions,
    ReconstructionOptions,
    RecoveryInRun,
    MeasurementOptions,
    OutputOptions,
    CommandOptions,
):
    """All options of a pruning run."""

    command: ClassVar[str] = "prune"
    sections: ClassVar[Mapping[str, type[CommandOptions]]] = {"recovery": RecoveryOptions}
    group: ClassVar[str] = "Running"

    scores: Source | None = Field(
        None, description="Keep the scores in this .safetensors file, and use the file again if it fits the run."
    )
    evaluation_batch_size: int = Field(ENCODING_BATCH_SIZE, ge=1, description="Texts encoded at a time in evaluation.")

    @model_validator(mode="after")
    def _check_structured(self) -> Self:
        for option in ("allocation", "scores", "fisher"):
            if self.is_structured and self.gives(option):
                raise ValueError(f"{option}: it has no effect on structured pruning; leave it out")
        if self.gives("layer_triplets") and "depth" not in self.units:
            raise ValueError("layer_triplets: no layers are removed, so this has no effect; leave it out")
        if self.sampling == "kmeans" and self.triplets is None:
            raise ValueError("sampling: all triplets are used, so nothing is drawn; give their number as triplets")
        if self.pattern is not None and self.allocation is not None:
            raise ValueError(f"allocation: granularity {self.granularity} fixes it; leave allocation out")
        return self

    @model_validator(mode="after")
    def _check_recovery(self) -> Self:
        if self.rounds > 1 and self.pattern is not None:
            raise ValueError(f"rounds: granularity {self.granularity} is reached in one round; leave rounds out")
        if not self.recover and ((self.rounds > 1 and not self.is_structured) or self.recovery):
            raise ValueError("recover: without steps, rounds and recovery have no effect; give --recover 100")
        return self
