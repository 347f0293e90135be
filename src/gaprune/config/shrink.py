"""All options of ``gaprune shrink``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from gaprune.config.data import DataReading
from gaprune.config.options import CommandOptions, Options, Source
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.removal import Target

Runtime = Literal["torch", "onnx", "openvino"]

_TARGETS = ("speedup", "size", "parameters")


def _parser(kind: str) -> PlainValidator:
    """Return the reader of a target of this kind, which is written without its name: ``25MB``, not ``size=25MB``."""
    return PlainValidator(lambda value: value if isinstance(value, Target) else Target.parse(f"{kind}={value}"))


_Number = PlainSerializer(lambda target: f"{target.limit:.15g}")
Speedup = Annotated[Target, _parser("speedup"), _Number]
SizeLimit = Annotated[Target, _parser("size"), _Number]
ParameterLimit = Annotated[Target, _parser("parameters"), _Number]


class ShrinkInput(DataReading):
    """What is read."""

    group: ClassVar[str] = "Input"

    domain: Source | None = Field(
        None,
        description="Texts of your domain: triplets, or plain documents (.txt, .md, .html, .pdf, .jsonl or a folder).",
    )
    general: Source | None = Field(
        None, description="Triplets of general language; default: the small sample that comes with GAPrune."
    )


class ShrinkTarget(Options):
    """What is reached."""

    group: ClassVar[str] = "What to remove"

    speedup: Speedup | None = Field(
        None, description="How many times faster the model becomes, as measured here on queries and passages."
    )
    size: SizeLimit | None = Field(None, description="Instead: bytes of its weights, such as 25MB.")
    parameters: ParameterLimit | None = Field(None, description="Instead: number of its parameters, such as 12M.")
    runtime: Runtime | None = Field(
        None,
        description="Where the speed is measured, of parent and child alike: torch, or int8 in onnx or openvino, for "
        "which a model is written too; default: where the parent is fastest here, of those installed.",
    )


class ShrinkOptions(ShrinkInput, ShrinkTarget, CommandOptions):
    """All options of ``gaprune shrink``."""

    command: ClassVar[str] = "shrink"
    sections: ClassVar[Mapping[str, type[CommandOptions]]] = {"prune": Recipe, "recover": RecoveryOptions}
    group: ClassVar[str] = "Running"

    model: Source | None = Field(None, description="Parent model: a folder, a hub id or demo.")
    minutes: float = Field(60.0, gt=0, description="Time for the whole run; what pruning leaves of it is trained.")
    out: Source | None = Field(None, description="Folder to write the model to.")
    overwrite: bool = Field(False, description="Replace the model in an output folder that exists.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the model.")
    prune: dict[str, Any] = Field(
        default_factory=dict, description="Options of gaprune prune, such as criterion=wanda."
    )
    recover: dict[str, Any] = Field(
        default_factory=dict, description="Options of gaprune recover, such as learning_rate=1e-4."
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="Share of the triplets that are held out for judging.")
    seed: int = Field(0, description="Seed of every draw.")

    @property
    def target(self) -> Target:
        """The one target."""
        found: Target = next(getattr(self, each) for each in _TARGETS if getattr(self, each) is not None)
        return found

    @property
    def measured_in(self) -> Runtime:
        """Where the speed is measured; PyTorch as long as nothing is chosen."""
        return self.runtime or "torch"

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        given = [each for each in _TARGETS if getattr(self, each) is not None]
        if len(given) != 1:
            raise ValueError(
                f"speedup: {' and '.join(given) + ' are' if given else 'no target is'} given; name exactly "
                "one target: speedup=3, size=25MB or parameters=12M"
            )
        if self.runtime not in (None, "torch") and self.speedup is None:
            raise ValueError("runtime: it is what a speedup is measured in; leave it out with another target")
        return self
