"""The recipe: everything a pruning run is told."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from gaprune.config.data import DataOptions
from gaprune.config.measurement import MeasurementOptions
from gaprune.config.options import ENCODING_BATCH_SIZE, CommandOptions, Fractions, Source, Words
from gaprune.config.reconstruction import ReconstructionOptions
from gaprune.config.units import UNITS, Unit, UnitOptions

__all__ = ["Allocation", "Recipe"]

Allocation = Literal["global", "layer", "matrix", "row"]

_UNITS_ALONE = ("round_to", "greedy", "layer_triplets")
_WEIGHTS_ALONE = ("allocation", "targets", "ignore", "scores", "scores_dtype")


class Recipe(DataOptions, MeasurementOptions, UnitOptions, ReconstructionOptions, CommandOptions):
    """Everything a pruning run is told."""

    command: ClassVar[str] = "prune"

    model: Source | None = Field(None, description="Parent model: a sentence-transformers folder or hub id.")
    revision: str | None = Field(None, description="Branch, tag or commit of the parent on the hub.")
    trust_remote_code: bool = Field(False, description="Let code that comes with the parent model run.")
    dtype: str | None = Field(None, description="Torch dtype to load the parent in; its own by default.")
    max_length: int | None = Field(
        None, ge=1, description="Cut texts at this many tokens; the model's limit by default."
    )
    sparsity: Fractions = Field(
        (0.5,),
        description="Fraction of the selected weights to remove; several, comma-separated, cost one measurement.",
    )
    targets: Words = Field(
        ("mlp",), description="What to prune: mlp, attention, all, a layer's name, or re:PATTERN; comma-separated."
    )
    ignore: Words = Field((), description="What to leave alone, in the words of --targets.")
    criterion: str = Field("dai", description="Importance criterion; `gaprune criteria` lists them.")
    criterion_options: dict[str, float | str | bool] = Field(
        default_factory=dict, description="Constants of the criterion, such as general_share=0.2."
    )
    granularity: str = Field(
        "weight",
        description="weight (unstructured zeros), N:M such as 2:4, or whole units: width, heads, depth, vocabulary.",
    )
    allocation: Allocation | None = Field(
        None, description="Where the budget is compared: global, layer, matrix or row; default: the criterion's own."
    )
    scores: Source | None = Field(
        None, description="Keep the scores in this .safetensors file, and reuse them when it fits the run."
    )
    scores_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type that importances are kept in; bfloat16, scaled by matrix, takes half of the room."
    )
    recover: int = Field(
        0, ge=0, description="Then retrain for this many steps on the domain's triplets, zeros held; 0 for none."
    )
    rounds: int = Field(
        1, ge=1, description="Prune and recover by turns this many times, up to the same sparsity and steps together."
    )
    recover_options: dict[str, float | str | bool] = Field(
        default_factory=dict, description="Options of `gaprune recover` for --recover, such as distil=true."
    )
    tasks: Source | None = Field(None, description="Evaluate result and parent on this folder of tasks.")
    evaluation_batch_size: int = Field(ENCODING_BATCH_SIZE, ge=1, description="Texts encoded at a time in it.")
    out: Source | None = Field(
        None, description="Write the pruned model to this folder; several sparsities go to folders inside it."
    )
    overwrite: bool = Field(False, description="Replace the model in an output folder that exists.")

    @field_validator("sparsity")
    @classmethod
    def _inside(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values:
            raise ValueError("needs at least one value")
        for value in values:
            if not 0 < value < 1:
                raise ValueError(f"{value:g} is not between 0 and 1 (both excluded); 0.5 removes half")
        return values

    @field_validator("granularity")
    @classmethod
    def _pattern(cls, value: str) -> str:
        if value == "weight" or value in UNITS:
            return value
        keep, _, group = value.partition(":")
        if not (keep.isdigit() and group.isdigit() and 0 < int(keep) < int(group)):
            raise ValueError(f"{value!r} is neither weight, {', '.join(UNITS)} nor N:M with 0 < N < M, such as 2:4")
        return value

    @property
    def pattern(self) -> tuple[int, int] | None:
        """``(N, M)`` of an N:M granularity: N of every M consecutive inputs stay; ``None`` for ``weight``."""
        if ":" not in self.granularity:
            return None
        keep, group = self.granularity.split(":")
        return int(keep), int(group)

    @model_validator(mode="after")
    def _rounds_have_steps(self) -> Self:
        if self.rounds > 1 and self.cuts_units:
            raise ValueError("rounds: whole units go at once, and --recover retrains what is left; leave --rounds out")
        if self.rounds > 1 and self.pattern is not None:
            raise ValueError(f"rounds: granularity {self.granularity} is reached in one round; leave --rounds out")
        if not self.recover and (self.rounds > 1 or self.recover_options):
            raise ValueError("recover: without steps, rounds and recover_options have no effect; give --recover 100")
        return self

    @model_validator(mode="after")
    def _pattern_decides(self) -> Self:
        if self.pattern is not None:
            keep, group = self.pattern
            implied = (group - keep) / group
            if "sparsity" in self.model_fields_set and self.sparsity != (implied,):
                raise ValueError(
                    f"sparsity: granularity {self.granularity} removes exactly {implied:g}; leave it (--sparsity) out"
                )
            object.__setattr__(self, "sparsity", (implied,))
            if self.allocation is not None:
                raise ValueError(f"allocation: granularity {self.granularity} fixes it; leave it (--allocation) out")
        return self

    @property
    def cuts_units(self) -> bool:
        """Whether whole units go, rather than single weights."""
        return self.granularity in UNITS or bool(self.unit_fields)

    @property
    def by_sparsity(self) -> bool:
        """Whether ``sparsity`` says how much goes, rather than a number of units of each kind or a target."""
        return not (self.unit_fields or self.remove is not None or self.granularity == "vocabulary")

    @property
    def targets_given(self) -> list[str]:
        """The options given that say which size or speed is to be reached."""
        return [name for name in self.unit_fields if name.startswith("target")]

    @property
    def units(self) -> frozenset[Unit]:
        """Kinds of units that go; for a target layers and neurons can."""
        named = {self.granularity, *self.unit_fields, *(("width", "depth") if self.targets_given else ())}
        return frozenset(unit for unit in UNITS if unit in named)

    @property
    def unit_fields(self) -> list[str]:
        """The options given that say which units go."""
        names = ("width", "heads", "depth", "vocabulary", "target_params", "target_size", "target_speedup")
        return [name for name in names if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one_road(self) -> Self:
        if self.remove is not None and self.granularity != "depth":
            raise ValueError("remove: it goes with --granularity depth (granularity='depth')")
        if self.tokens is not None and not (self.granularity == "vocabulary" or self.vocabulary is not None):
            raise ValueError("tokens: no vocabulary is cut; ask for it with --granularity vocabulary")
        road, wrong = ("units", _WEIGHTS_ALONE) if self.cuts_units else ("weights", _UNITS_ALONE)
        for option in wrong:
            if self._is_set(option):
                raise ValueError(
                    f"{option}: it is for single weights, and whole units are cut out here; leave it out"
                    if road == "units"
                    else f"{option}: granularity {self.granularity} removes no whole units; leave it out"
                )
        self._check_effect()
        if self.unit_fields:
            self._check_mix()
        if self._is_set("sparsity") and not (self.by_sparsity or self.unit_fields):
            other = "remove" if self.remove is not None else "tokens"
            raise ValueError(f"sparsity: {other} says what goes; leave --sparsity out")
        return self

    def _check_effect(self) -> None:
        """Refuse options that would change nothing."""
        if self.reconstruct is False:
            for option in ("ridge", "reconstruction_triplets", "general_share"):
                if self._is_set(option):
                    raise ValueError(f"{option}: repair is switched off, so this has no effect; leave it out")
        if self._is_set("scores_dtype") and self.scores is None:
            raise ValueError("scores_dtype: no scores are kept, so this has no effect; name a file (--scores)")
        if not self.cuts_units:
            return
        for option, unit, what in (
            ("greedy", "depth", "layers"),
            ("layer_triplets", "depth", "layers"),
            ("round_to", "width", "neurons"),
        ):
            if self._is_set(option) and unit not in self.units:
                raise ValueError(f"{option}: no {what} go, so this has no effect; leave it out")
        if self._is_set("fisher"):
            raise ValueError("fisher: units are told apart without it, so this has no effect; leave it out")

    def _is_set(self, option: str) -> bool:
        """Whether an option differs from its default, so that a recipe written out whole means the same."""
        return bool(getattr(self, option) != type(self).model_fields[option].default)

    def _check_mix(self) -> None:
        """Refuse a mix of units that says two things at once."""
        fields = self.unit_fields
        own = self.granularity if self.granularity in UNITS else None
        if (own is not None and fields != [own]) or self.pattern is not None:
            raise ValueError(f"granularity: {fields[0]} says already what goes; leave --granularity out")
        if self._is_set("sparsity") or (own is not None and own != "vocabulary"):
            raise ValueError(f"sparsity: {fields[0]} says already how much goes; leave one of the two out")
        targets = self.targets_given
        if len(targets) > 1 or (targets and set(fields) - {"vocabulary", *targets}):
            others = " and ".join(field for field in fields if field != targets[0])
            raise ValueError(f"{targets[0]}: the tool chooses the mix for it; leave {others} out")
