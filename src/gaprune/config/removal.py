"""Options that say what to remove: weights, or neurons, heads, layers and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError, model_validator

from gaprune.config.options import Counts, Fractions, Number, Options, Size, Source, Words

Unit = Literal["width", "heads", "hidden", "depth", "vocabulary"]
TargetKind = Literal["speedup", "size", "parameters"]

_AMOUNTS = ("width", "heads", "hidden", "depth")
"""Options that say how much of a kind of unit to remove; one of them may have several values."""

_STRUCTURED = (*_AMOUNTS, "vocabulary", "tokens", "target")
"""Options of structured pruning."""

_WEIGHTS_ONLY = ("sparsity", "granularity", "targets", "ignore")


@dataclass(frozen=True)
class Target:
    """What the pruned model must reach, by removing layers and neurons.

    Args:
        kind: What is limited.
        limit: At least so many times fewer operations per token (speedup), at most so many bytes (size) or parameters.
    """

    kind: TargetKind
    limit: float

    def __str__(self) -> str:
        return f"{self.kind}={self.limit:.15g}"

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read ``speedup=2``, ``size=25MB`` or ``parameters=12M``.

        Raises:
            ValueError: If the value is none of these.
        """
        if isinstance(value, cls):
            return value
        kind, _, amount = str(value).replace(" ", "").partition("=")
        try:
            if kind == "speedup" and float(amount) > 1:
                return cls("speedup", float(amount))
            if kind == "size":
                return cls("size", int(TypeAdapter(Size).validate_python(amount)))
            if kind == "parameters":
                return cls("parameters", TypeAdapter(Annotated[Number, Field(gt=0)]).validate_python(amount))
        except (ValueError, ValidationError):
            pass
        raise ValueError(f"{value!r} is not a target; write speedup=2 (more than 1), size=25MB or parameters=12M")


class RemovalOptions(Options):
    """What to remove."""

    group: ClassVar[str] = "What to remove"

    sparsity: Fractions = Field(
        (0.5,),
        description="Fraction of the selected weights to set to zero; several values share one measurement.",
    )
    granularity: str = Field(
        "weight", description="Which weights may be zero: weight (any) or N:M (all but N of every M inputs), as 2:4."
    )
    targets: Words = Field(
        ("mlp",), description="Linear layers to prune: mlp, attention, all, a layer's name, or re:PATTERN."
    )
    ignore: Words = Field((), description="Linear layers to leave unchanged, in the words of targets.")
    width: Fractions = Field((), description="Fraction of every layer's FFN neurons to remove.")
    heads: Fractions = Field((), description="Fraction of the attention heads to remove (by key/value group).")
    hidden: Fractions = Field(
        (), description="Fraction of the hidden dimensions to remove; with heads where their size depends on it."
    )
    depth: Counts = Field((), description="Number of layers to remove.")
    vocabulary: Source | None = Field(
        None,
        description="Remove tokens that neither these texts (.txt, .jsonl, folder) nor the calibration data use.",
    )
    tokens: float | None = Field(
        None, gt=0, lt=1, description="Fraction of the vocabulary to remove, rarest first; default: all unused tokens."
    )
    target: Annotated[Target, PlainValidator(Target.parse), PlainSerializer(str)] | None = Field(
        None, description="Choose layers and neurons to reach speedup=2, size=25MB or parameters=12M."
    )
    search: Words = Field(
        ("depth", "width"),
        description="Target: kinds of units that it may remove, of depth, width, hidden and heads.",
    )
    round_to: int = Field(
        64, ge=1, description="The number of FFN neurons, or hidden dimensions, that are kept is a multiple of this."
    )
    rotate: bool = Field(
        False,
        description="Hidden: turn the residual stream to its principal axes first, and remove the last of them (only "
        "models with RMSNorm).",
    )
    greedy: bool = Field(False, description="Depth: measure the layers again after each removal.")

    @property
    def pattern(self) -> tuple[int, int] | None:
        """``(N, M)`` of an N:M granularity (N of every M consecutive inputs are kept); ``None`` for ``weight``."""
        if ":" not in self.granularity:
            return None
        keep, group = self.granularity.split(":")
        return int(keep), int(group)

    @property
    def is_structured(self) -> bool:
        """Whether neurons, heads, layers or tokens are removed, rather than single weights."""
        return any(self.differs(option) for option in _STRUCTURED)

    @property
    def units(self) -> frozenset[Unit]:
        """Kinds of units that are removed; a target may remove layers and neurons."""
        found: dict[Unit, bool] = {
            "width": bool(self.width) or self.target is not None,
            "heads": bool(self.heads) or (self.target is not None and "heads" in self.search),
            "hidden": bool(self.hidden) or (self.target is not None and "hidden" in self.search),
            "depth": bool(self.depth) or self.target is not None,
            "vocabulary": self.vocabulary is not None or self.tokens is not None,
        }
        return frozenset(unit for unit, is_removed in found.items() if is_removed)

    def singles(self) -> dict[str, Self]:
        """Return one set of options per result, by the name of the result's folder such as ``width-0.5``.

        Each of them has one value of ``sparsity``, or at most one of each kind of unit.
        """
        given = [each for each in _AMOUNTS if getattr(self, each)] if self.is_structured else ["sparsity"]
        if not given:
            return {"pruned": self}
        option = max(given, key=lambda each: len(getattr(self, each)))
        return {f"{option}-{value}": self.model_copy(update={option: (value,)}) for value in getattr(self, option)}

    @model_validator(mode="after")
    def _check_granularity(self) -> Self:
        if self.granularity == "weight":
            return self
        keep, _, group = self.granularity.partition(":")
        if not (keep.isdigit() and group.isdigit() and 0 < int(keep) < int(group)):
            raise ValueError(
                f"granularity: {self.granularity!r} is neither weight nor N:M with 0 < N < M, such as 2:4; neurons, "
                "heads, hidden dimensions, layers and tokens have options of their own (width, heads, hidden, depth, "
                "vocabulary)"
            )
        implied = (int(group) - int(keep)) / int(group)
        if "sparsity" in self.model_fields_set and self.sparsity != (implied,):
            raise ValueError(f"sparsity: granularity {self.granularity} removes {implied:g} exactly; leave it out")
        object.__setattr__(self, "sparsity", (implied,))
        return self

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        if not self.sparsity:
            raise ValueError("sparsity: at least one value is needed")
        several = [option for option in _AMOUNTS if len(getattr(self, option)) > 1]
        if len(several) > 1:
            raise ValueError(f"{several[1]}: {several[0]} has several values already; give one value here")
        wrong = next((kind for kind in self.search if kind not in _AMOUNTS), None)
        if wrong is not None or not {"depth", "width"} <= set(self.search):
            raise ValueError(
                f"search: {wrong or 'depth and width are always among them'}; write depth,width,hidden,heads or a part"
            )
        if self.target is None and self.gives("search"):
            raise ValueError("search: without a target nothing is searched for; leave it out, or give a target")
        if self.target is not None:
            for option in _AMOUNTS:
                if getattr(self, option) and option != "hidden":
                    raise ValueError(f"{option}: the target decides how much is removed; leave {option} out")
        return self

    @model_validator(mode="after")
    def _check_effect(self) -> Self:
        """Refuse options that would change nothing."""
        if self.is_structured:
            first = next(option for option in _STRUCTURED if self.differs(option))
            for option in _WEIGHTS_ONLY:
                if self.gives(option):
                    raise ValueError(f"{option}: it is for single weights, and {first} is structured; leave it out")
        rounded = ("width", "hidden"), "neurons or hidden dimensions"
        if self.rotate and not self.hidden:
            raise ValueError(
                "rotate: it is for a given number of hidden dimensions; leave it out, or give hidden=0.25"
            )
        for option, units, what in (("greedy", ("depth",), "layers"), ("round_to", *rounded)):
            if self.gives(option) and self.units.isdisjoint(units):
                raise ValueError(f"{option}: no {what} are removed, so this has no effect; leave it out")
        return self
