"""The options of the verbs in Python, as types: editors complete them, and type checkers know them.

A test holds them to the fields of :class:`~gaprune.config.recipe.Recipe` and
:class:`~gaprune.config.recovery.RecoveryOptions`, where each option is explained. ``None`` means not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from gaprune.config.measurement import FisherKind, Negatives, Placement, Precision, Sampling
from gaprune.config.recipe import Allocation
from gaprune.config.removal import Target
from gaprune.config.shrink import Runtime

Place = str | Path
Words = str | Sequence[str]
Numbers = float | str | Sequence[float]
Counts = int | str | Sequence[int]
Columns = Mapping[str, str]


class ModelOptions(TypedDict, total=False):
    """How models are loaded."""

    revision: str | None
    trust_remote_code: bool
    device: str | None
    dtype: str | None


class LoadingOptions(ModelOptions, total=False):
    """How models are loaded, and where their texts end."""

    max_length: int | None


class DomainReading(TypedDict, total=False):
    """How data of the domain are read."""

    subset: str | None
    split: str | None
    columns: Columns
    skip_empty: bool


class ReadingOptions(DomainReading, total=False):
    """How data are read."""

    general_subset: str | None
    general_split: str | None
    general_columns: Columns


class DataOptions(ReadingOptions, total=False):
    """What is done with calibration data, beside ``domain`` and ``general``."""

    mine_negatives: int
    query_prompt: str | None
    passage_prompt: str | None


class RunOptions(LoadingOptions, DataOptions, total=False):
    """Options of a recipe that hold for one criterion and for several."""

    granularity: str
    targets: Words
    ignore: Words
    width: Numbers
    heads: Numbers
    hidden: Numbers
    depth: Counts
    vocabulary: Place | None
    tokens: float | None
    target: str | Target | None
    round_to: int
    search: Words
    rotate: bool
    greedy: bool
    allocation: Allocation | None
    reconstruct: bool | None
    ridge: Numbers
    reconstruction_triplets: int
    general_share: float
    layer_triplets: int
    recover: int
    rounds: int
    recovery: Mapping[str, float | str | bool]
    sampling: Sampling
    fisher: FisherKind
    negatives: Negatives
    temperature: float
    batch_size: int | None
    seed: int
    precision: Precision
    placement: Placement
    memory_budget: int | str | None
    checkpoint: Place | None
    checkpoint_every: float
    resume: bool
    evaluation_batch_size: int


class CompareOptions(RunOptions, total=False):
    """Options of :func:`gaprune.compare`."""

    sparsity: Numbers


class PruneOptions(RunOptions, total=False):
    """Options of :func:`gaprune.prune`, beside its own arguments."""

    triplets: int | None
    criterion: str
    scores: Place | None
    tasks: Place | None
    overwrite: bool


class PruneManyOptions(PruneOptions, total=False):
    """Options of :func:`gaprune.prune_many`, beside its own arguments."""

    sparsity: Numbers
    out: Place | None


class RecoverOptions(DataOptions, total=False):
    """Options of :func:`gaprune.recover`, beside its own arguments."""

    trust_remote_code: bool
    max_length: int | None
    triplets: int | None
    tokens: int | str | None
    minutes: float | None
    targets: Words | None
    batch_size: int
    mini_batch_size: int | None
    hard_negatives: int | None
    general_share: float | None
    learning_rate: float | None
    warmup: float
    temperature: float
    contrastive_weight: float
    lora: int | None
    bf16: bool | None
    gradient_checkpointing: bool
    held_out: float
    patience: int | None
    distil: bool
    embedding_weight: float
    fixed_targets: bool
    similarity_weight: float
    teacher_cache: Place | None
    device: str | None
    checkpoint: Place | None
    resume: bool
    evaluate_every: int
    seed: int
    tasks: Place | None
    overwrite: bool


class ShrinkKeywords(ReadingOptions, total=False):
    """Options of :func:`gaprune.shrink`, beside its own arguments."""

    speedup: float | str | Target | None
    size: float | str | Target | None
    parameters: float | str | Target | None
    runtime: Runtime | None
    minutes: float
    overwrite: bool
    trust_remote_code: bool
    prune: Mapping[str, Any]
    recover: Mapping[str, Any]
    held_out: float
    seed: int
