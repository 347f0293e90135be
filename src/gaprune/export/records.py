"""The parts of a provenance: what was removed, by which method, and what was trained, measured and exported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gaprune.export.portable import Options, Parent, Record

__all__ = [
    "Calibration",
    "CalibrationData",
    "DataSet",
    "Export",
    "Method",
    "Mix",
    "Prompts",
    "PruningRound",
    "Reconstruction",
    "Recovery",
    "RecoveryData",
    "Removed",
    "Size",
    "Sparsity",
    "Structured",
    "TargetChoice",
    "Texts",
    "Training",
    "Unstructured",
]  # fmt: skip


class DataSet(Record):
    """A set of triplets: its name, size, and the fingerprint of its texts."""

    name: str
    triplets: int
    sha256: str


class CalibrationData(DataSet):
    """Calibration triplets, with the origin of their negatives."""

    with_own_negatives: int
    mined_negatives_each: int


class Calibration(Record):
    """The calibration data of each kind; ``None`` if a run did not use that kind."""

    domain: CalibrationData | None = None
    general: CalibrationData | None = None


class Prompts(Record):
    """Texts put before queries and passages."""

    query: str | None = None
    passage: str | None = None


class Reconstruction(Record):
    """A least-squares reconstruction, and the degradation on held-out triplets without and with it, by kind."""

    kept: bool
    ridge: float
    general_share: float
    triplets: int
    held_out: int
    degradation_pruned: dict[str, float]
    degradation_reconstructed: dict[str, float]
    problem: str | None = None


class Mix(Record):
    """A candidate for a target: layers removed, FFN neurons per layer and tokens kept."""

    depth: int
    width: int
    tokens: int
    parameters: int
    speedup: float
    estimated_degradation: float


class Size(Record):
    """Layers, FFN neurons per layer and tokens of the parent."""

    depth: int
    width: int
    tokens: int


class TargetChoice(Record):
    """How a target size or speed led to numbers of layers and neurons.

    Args:
        kind: What was limited.
        limit: The limit.
        asked: The fraction of the parent's parameters, bytes or operations that had to be removed.
        parent: Size of the parent.
        chosen: The candidate with the lowest estimated degradation.
        candidates: All candidates.
        degradation_by_depth: Measured degradation by number of removed layers.
        degradation_by_width: Measured degradation by fraction of removed neurons.
    """

    kind: Literal["parameters", "size", "speedup"]
    limit: float
    asked: float
    parent: Size
    chosen: Mix
    candidates: tuple[Mix, ...]
    degradation_by_depth: tuple[float, ...]
    degradation_by_width: dict[str, float]


class Texts(Record):
    """Texts whose tokens were kept."""

    texts: int
    sha256: str


class Removed(Record):
    """One kind of structures that was removed.

    Args:
        kind: The option that removes them.
        label: What they are called in reports.
        removed: How many were removed (per layer, if the label says so).
        total: How many the parent has.
        kept: Indices that were kept, by name.
        found: What the choice rests on.
    """

    kind: str
    label: str
    removed: int
    total: int
    kept: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    found: Options = Field(default_factory=dict)


class Unstructured(Record):
    """Single weights became zeros.

    Args:
        type: Tells this record from the other.
        granularity: ``weight`` or ``N:M``.
        allocation: How the budget was spread; ``None`` if the granularity fixes it.
        targets: The selection that was asked for.
        linear_layers: Names of the selected layers.
        scores_origin_sha256: Fingerprint of everything that the importances depend on.
    """

    type: Literal["unstructured"] = "unstructured"
    granularity: str
    allocation: str | None = None
    targets: tuple[str, ...]
    linear_layers: tuple[str, ...]
    scores_origin_sha256: str | None = None


class Structured(Record):
    """Whole structures were removed."""

    type: Literal["structured"] = "structured"
    removed: tuple[Removed, ...]
    texts: Texts | None = None
    target: TargetChoice | None = None

    @property
    def granularity(self) -> str:
        """The kinds of removed structures."""
        return "+".join(each.kind for each in self.removed)


class Method(Record):
    """How a model was pruned; ``criterion`` is ``None`` if GAPrune did not prune it."""

    criterion: str | None
    options: Options = Field(default_factory=dict)
    pruning: Annotated[Unstructured | Structured, Field(discriminator="type")]
    reconstruction: Reconstruction | None = None

    @property
    def selected(self) -> tuple[str, ...]:
        """Names of the linear layers whose weights were up for pruning; empty for structured pruning."""
        return self.pruning.linear_layers if isinstance(self.pruning, Unstructured) else ()


class Sparsity(Record):
    """How much was removed, of the selection and of the model.

    Args:
        asked: Fraction that was asked for; ``None`` if numbers of structures or a target were.
        of_selected: Fraction removed of the selected parameters.
        of_model: Fraction removed of the parent's parameters.
        removed: Zeros among the selected weights, or parameters that were cut out.
        selected: Parameters that were up for removal.
        parameters: Parameters of the model.
        parent_parameters: Parameters of the parent.
        by_linear_layer: Fraction of zeros by selected layer, for unstructured pruning.
    """

    asked: float | None = None
    of_selected: float
    of_model: float
    removed: int
    selected: int
    parameters: int
    parent_parameters: int
    by_linear_layer: dict[str, float] = Field(default_factory=dict)


class RecoveryData(Record):
    """What a recovery was trained on."""

    domain: DataSet
    general: DataSet | None = None
    held_out: DataSet | None = None
    negatives: int
    negatives_left_out: bool
    general_share: float


class Training(Record):
    """How a training went: the fields of :class:`gaprune.recovery.recover_model.TrainingRecord`."""

    steps: int
    best_step: int
    before: dict[str, float]
    after: dict[str, float]
    curve: tuple[tuple[int, float], ...]
    learning_rate: float
    masked_weights: int
    held_out_triplets: int
    processes: int
    seconds: float


class PruningRound(Record):
    """The pruning before a recovery, if pruning and recovery alternated."""

    sparsity: float
    reconstruction: Reconstruction | None = None


class Recovery(Record):
    """One recovery: its data, its options, and how it went.

    Args:
        made: When.
        versions: Versions of the software.
        data: What it was trained on.
        steps: Steps asked for.
        batch_size: Triplets per step.
        lora: Rank of the low-rank updates; ``None`` if all weights were trained.
        loss: Weight of each term of the loss, by its description.
        options: All options.
        teacher: What was distilled from.
        training: How it went.
        round: The pruning before it, if pruning and recovery alternated.
    """

    made: str
    versions: dict[str, str]
    data: RecoveryData
    steps: int
    batch_size: int
    lora: int | None = None
    loss: dict[str, float]
    options: Options
    teacher: Parent | None = None
    training: Training
    round: PruningRound | None = None


class Export(Record):
    """An export to another runtime, and how near its embeddings are to the source's.

    Args:
        to: The runtime.
        int8: Whether its weights were quantised.
        source: The model that was exported.
        parameters: Parameters of the source.
        flops: Operations of the source, as :class:`gaprune.evaluation.cost.flops.Flops`.
        versions: Versions of the software.
        texts: Number of texts compared.
        cosine_min: The lowest cosine between the embeddings of a text by both.
        cosine_mean: The mean of these cosines.
    """

    to: Literal["onnx", "openvino"]
    int8: bool
    source: Parent
    parameters: int
    flops: dict[str, int]
    versions: dict[str, str]
    texts: int
    cosine_min: float
    cosine_mean: float
