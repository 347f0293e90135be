"""The options of a run: one typed object for Python, YAML and the command line.

Precedence, lowest first: the defaults stated here, the recipe file, the options given on the command line or
as Python arguments. Every default is stated here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from gaprune.errors import ConfigError, suggest

__all__ = [
    "Allocation",
    "DataOptions",
    "FisherKind",
    "Negatives",
    "Options",
    "Recipe",
    "RecoveryOptions",
    "SignalOptions",
    "load_recipe",
]

Allocation = Literal["global", "layer", "matrix", "row"]
FisherKind = Literal["triplet", "batch"]
Negatives = Literal["in-batch", "explicit"]


_COMMA = re.compile(r",(?![^{]*})")
"""A comma between words, not one within the braces of a regular expression."""


def _listed(value: object) -> object:
    """Accept ``"a,b"`` and a lone value where a list is meant."""
    if isinstance(value, str):
        return tuple(part.strip() for part in _COMMA.split(value) if part.strip())
    return (value,) if isinstance(value, int | float) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Fractions = Annotated[tuple[float, ...], BeforeValidator(_listed)]
Source = Annotated[str, BeforeValidator(_text)]


class Options(BaseModel):
    """Base of all options: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    command: ClassVar[str] = "prune"

    @classmethod
    def known(cls) -> str:
        """Return where all options of this kind are told."""
        return f"`gaprune {cls.command} --help` lists every option; a recipe uses the same names with underscores."

    @classmethod
    def build(cls, *layers: Mapping[str, Any]) -> Self:
        """Build the options from layers of options, later ones winning; ``None`` means not given.

        Raises:
            ConfigError: If a key is unknown or a value makes no sense; it names the option.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            for key, value in layer.items():
                if key not in cls.model_fields:
                    raise ConfigError(f"Unknown option {key!r}.{suggest(key, cls.model_fields)}", cls.known())
                if value is not None:
                    merged[key] = value
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{place + ': ' if place else ''}{message}.", cls.known()) from error


class DataOptions(Options):
    """Where calibration triplets come from."""

    domain: Source | None = Field(None, description="Triplets of your domain: a file, a folder or a hub data set id.")
    general: Source | None = Field(
        None, description="Triplets of general language, likewise; a named public hub data set where none is given."
    )
    subset: str | None = Field(None, description="Configuration of a domain data set on the hub.")
    split: str | None = Field(None, description="Split of a domain data set on the hub; train by default.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names of the columns of the domain data that hold query, positive and negative(s).",
    )
    general_subset: str | None = Field(None, description="Configuration of a general data set on the hub.")
    general_split: str | None = Field(None, description="Split of a general data set on the hub; train by default.")
    general_columns: dict[str, str] = Field(
        default_factory=dict, description="Names of the columns of the general data, likewise."
    )
    triplets: int | None = Field(None, ge=1, description="Draw this many triplets a side, at random; default: all.")
    mine_negatives: int = Field(
        0, ge=0, description="Mine this many hard negatives for each pair that has none; 0 leaves in-batch negatives."
    )
    query_prompt: str | None = Field(None, description="Text put before queries; default: the model's own prompt.")
    passage_prompt: str | None = Field(None, description="Text put before passages; default: the model's own prompt.")


class SignalOptions(Options):
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

    @property
    def triplets_per_batch(self) -> int:
        """The batch size, resolved."""
        return self.batch_size or (4 if self.fisher == "batch" else 16)


class Recipe(DataOptions, SignalOptions):
    """Everything a pruning run is told."""

    model: Source | None = Field(None, description="Parent model: a sentence-transformers folder or hub id.")
    revision: str | None = Field(None, description="Branch, tag or commit of the parent on the hub.")
    trust_remote_code: bool = Field(False, description="Let code that comes with the parent model run.")
    device: str | None = Field(None, description="Torch device; chosen by sentence-transformers by default.")
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
        default_factory=dict, description="Constants of the criterion, such as general=0.3."
    )
    granularity: str = Field("weight", description="weight (unstructured), or N:M such as 2:4.")
    allocation: Allocation | None = Field(
        None, description="Where the budget is compared: global, layer, matrix or row; default: the criterion's own."
    )
    scores: Source | None = Field(
        None, description="Keep the scores in this .safetensors file, and reuse them when it fits the run."
    )

    scores_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type the scores are kept in; bfloat16 is scaled by matrix and half the size."
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
        if value == "weight":
            return value
        keep, _, group = value.partition(":")
        if not (keep.isdigit() and group.isdigit() and 0 < int(keep) < int(group)):
            raise ValueError(f"{value!r} is neither 'weight' nor N:M with 0 < N < M, such as 2:4")
        return value

    @property
    def pattern(self) -> tuple[int, int] | None:
        """``(N, M)`` of an N:M granularity: N of every M consecutive inputs stay; ``None`` for ``weight``."""
        if self.granularity == "weight":
            return None
        keep, group = self.granularity.split(":")
        return int(keep), int(group)

    @model_validator(mode="after")
    def _rounds_have_steps(self) -> Self:
        if self.rounds > 1 and self.granularity != "weight":
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
                    f"sparsity: granularity {self.granularity} removes exactly {implied:g}; leave --sparsity out"
                )
            object.__setattr__(self, "sparsity", (implied,))
            if self.allocation is not None:
                raise ValueError(f"allocation: granularity {self.granularity} fixes it; leave --allocation out")
        return self


_RATES = {"weights": 5e-5, "units": 1e-4, "low-rank": 5e-4}
"""Learning rates at the start, where none is given."""


class RecoveryOptions(DataOptions):
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
        description="Where zeros are held, in the words of `gaprune prune`; default: the matrices that gaprune.json "
        "names, or all where there is none.",
    )
    steps: int = Field(100, ge=1, description="Optimiser steps.")
    batch_size: int = Field(32, ge=2, description="Triplets a step, over all processes together.")
    mini_batch_size: int | None = Field(
        None, ge=1, description="Embed so many texts at a time (cached loss): less memory, same result, more time."
    )
    hard_negatives: int | None = Field(
        None,
        ge=0,
        description="Negatives of its own that each query is trained with, beside those of the batch; default: one "
        "where every triplet has one.",
    )
    general_ratio: float | None = Field(
        None, ge=0, lt=1, description="Share of general triplets; default: 0.25 where general data are named, else 0."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="Highest learning rate; default: "
        + ", ".join(f"{rate:g} for {road}" for road, rate in _RATES.items())
        + ".",
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
        0.1, ge=0, lt=1, description="Share of the domain's triplets held out to choose the best step; 0 for none."
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

    def rate(self, *, units: bool) -> float:
        """Return the highest learning rate, resolved for a model pruned by units or by weights."""
        road = "units" if units else "weights"
        return self.learning_rate or _RATES["low-rank" if self.lora else road]

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if self.distil:
            if not self.embedding_weight + self.similarity_weight:
                raise ValueError("distil: both of its weights are 0; leave --distil out")
        elif not self.contrastive_weight:
            raise ValueError("contrastive_weight: 0 leaves nothing to learn without --distil")
        if self.patience is not None and not self.held_out:
            raise ValueError("patience: there is no held-out loss to wait for with --held-out 0")
        return self


class _RecipeLoader(yaml.SafeLoader):
    """Safe YAML in which ``2:4`` is a pattern, where YAML 1.1 reads 124, in base 60."""

    def integer(self, node: yaml.ScalarNode) -> int | str:
        return node.value if ":" in node.value else self.construct_yaml_int(node)


_RecipeLoader.add_constructor("tag:yaml.org,2002:int", _RecipeLoader.integer)


def load_recipe(path: str | Path, options: type[Options] = Recipe) -> dict[str, Any]:
    """Read a recipe file (YAML, one mapping of option names to values).

    Args:
        path: The file.
        options: The kind of options it holds.

    Raises:
        ConfigError: If the file cannot be read, is no mapping, or names an option that is unknown or twice there.
    """
    path = Path(path)
    try:
        loader = _RecipeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}", "Give a YAML file that exists.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The recipe {path} is not valid YAML: {error}", "Mend it at the place named.") from error
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"The recipe {path} is no mapping.", "Write lines such as `sparsity: 0.5`.")
    _refuse_duplicates(path, node)
    for key, _ in node.value:
        if key.value not in options.model_fields:
            raise ConfigError(
                f"{path}:{key.start_mark.line + 1}: unknown option {key.value!r}."
                + suggest(key.value, options.model_fields),
                options.known(),
            )
    return content


def _refuse_duplicates(path: Path, node: yaml.MappingNode) -> None:
    """Refuse a key that stands twice in a mapping, at any depth: YAML would let the last one win."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ConfigError(
                f"{path}:{line}: {key.value!r} stands on line {lines[key.value]} too.", "Keep one of the two."
            )
        lines[key.value] = line
        if isinstance(value, yaml.MappingNode):
            _refuse_duplicates(path, value)
