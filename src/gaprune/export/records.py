"""The parts of a provenance: what was removed, by which method, and what was trained, measured and exported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gaprune.evaluation.cost.footprint import Footprint
from gaprune.evaluation.cost.latency import Speed
from gaprune.export.portable import Options, Parent
from gaprune.pruning.search import TargetChoice
from gaprune.reconstruction.validate import Reconstruction
from gaprune.recovery.recover_model import Training
from gaprune.util.records import Record


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


class Texts(Record):
    """Texts whose tokens were kept."""

    texts: int
    sha256: str


class Removed(Record):
    """One kind of structures that was removed: see :class:`gaprune.pruning.removable.base.RemovedUnits`."""

    kind: str
    label: str
    removed: int
    total: int
    kept: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    found: Options = Field(default_factory=dict)


class Unstructured(Record):
    """Single weights became zeros; ``allocation`` is ``None`` if the granularity fixes it."""

    type: Literal["unstructured"] = "unstructured"
    granularity: str
    allocation: str | None = None
    targets: tuple[str, ...]
    linear_layers: tuple[str, ...]
    scores_origin_sha256: str | None = None


class Structured(Record):
    """Whole structures were removed; ``texts`` are those whose tokens were kept."""

    type: Literal["structured"] = "structured"
    removed: tuple[Removed, ...]
    texts: Texts | None = None
    target: TargetChoice | None = None


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


class PassageSet(Record):
    """A set of passages without labels: its name, size, and the fingerprint of its texts."""

    name: str
    passages: int
    sha256: str


class DistillationData(Record):
    """What a distillation on texts was trained on.

    Args:
        domain: Passages of the domain.
        general: General passages that were mixed in.
        held_out: Passages of the domain that were not trained on.
        general_share: Share of general pairs of a query and a passage.
        tokens: Tokens of all pairs that were planned.
        passes: Passes over the domain's passages.
        spans_as_queries: Whether spans of words were queries, because the sentences were all used.
    """

    domain: PassageSet
    general: PassageSet | None = None
    held_out: PassageSet | None = None
    general_share: float
    tokens: int
    passes: float
    spans_as_queries: bool


class PruningRound(Record):
    """The pruning before a recovery, if pruning and recovery alternated."""

    sparsity: float
    reconstruction: Reconstruction | None = None


class Recovery(Record):
    """One recovery; ``loss`` has the weight of each term by its description, ``lora`` the rank of the updates.

    ``other_teacher`` is the name of the teacher, if it is not the model's parent.
    """

    made: str
    versions: dict[str, str]
    data: RecoveryData | DistillationData
    steps: int
    batch_size: int
    lora: int | None = None
    loss: dict[str, float]
    options: Options
    teacher: Parent | None = None
    other_teacher: str | None = None
    training: Training
    round: PruningRound | None = None

    @property
    def taught_by(self) -> str:
        """The teacher in words: the parent, or the name of another model."""
        return self.other_teacher or "the parent"


class Export(Record):
    """An export to another runtime.

    Args:
        to: Name of the format.
        int8: Whether it is quantised to int8.
        form: How the weights are kept; empty in earlier exports.
        source: The model that was exported.
        parameters: Parameters of the source.
        flops: :class:`gaprune.evaluation.cost.footprint.Flops` of the source.
        footprint: Sizes and zeros of the source; ``None`` in earlier exports.
        versions: Versions of the libraries.
        texts: Held-out texts whose embeddings were compared; 0 if nothing could run the export.
        texts_origin: Where these texts come from, in words; empty in earlier exports.
        cosine_min: Lowest cosine between the embeddings of a text by the export and by the source.
        cosine_mean: Mean of the cosines.
        floor: The least mean and the least lowest cosine that were asked for.
    """

    to: str
    int8: bool
    form: str = ""
    source: Parent
    parameters: int
    flops: dict[str, int]
    footprint: Footprint | None = None
    versions: dict[str, str]
    texts: int
    texts_origin: str = ""
    cosine_min: float | None
    cosine_mean: float | None
    floor: tuple[float, float] | None = None

    @property
    def below_floor(self) -> bool:
        """Whether it was written although it agrees less than the floor asks for."""
        figures = (self.cosine_mean, self.cosine_min)
        return any(
            least is not None and found is not None and found < least
            for found, least in zip(figures, self.floor or (), strict=False)
        )


class Shrink(Record):
    """How ``gaprune shrink`` made a model, and what was measured.

    Args:
        target: What was asked for.
        runtime: Where the speed was measured.
        speed: Of the model beside its parent.
        expected: Speedups that the search expected of the models that it pruned in turn, until one met the target.
        minutes: By stage.
        training_triplets: Number of triplets that it was trained on.
        held_out_queries: Number of queries of the domain that it was judged on.
        texts: Number of texts that it was distilled on.
        is_labelled: Whether the user gave the triplets; otherwise they were made from documents.
        warnings: What was wrong with the data.
        options: Those that the run was asked for.
    """

    target: str
    runtime: str
    speed: Speed
    expected: tuple[float, ...]
    minutes: dict[str, float]
    training_triplets: int
    held_out_queries: int
    texts: int
    is_labelled: bool
    warnings: tuple[str, ...] = ()
    options: Options = Field(default_factory=dict)
