"""The interface and the registry of everything that can be removed from a model, and the outcome of removing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Criterion, Granularity, needs_of
from gaprune.criteria.needs import DataKind, Needs
from gaprune.models.linear_layers import LinearLayer
from gaprune.pruning.basis import Basis
from gaprune.util.registry import Registry

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor


@dataclass(frozen=True)
class RemovedUnits:
    """What is removed of one kind of structure.

    Args:
        kind: Name of the kind.
        label: The kind in words.
        removed: Number of removed units (in each layer, for heads and neurons).
        total: Number of units of the parent.
        kept: Indices of the kept units: by name of the consuming linear layer for heads and neurons, as ``layers``
            for layers, as ``hidden`` for hidden dimensions.
        found: What the decision rests on, such as the measured effect of each layer.
    """

    kind: str
    label: str
    removed: int
    total: int
    kept: Mapping[str, Sequence[int]] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return a sentence for people."""
        return f"{self.removed:,} of {self.total:,} {self.label}"

    @property
    def removed_layers(self) -> tuple[int, ...]:
        """Layers of the parent that are removed as a whole."""
        kept = self.kept.get("layers")
        return () if kept is None else tuple(layer for layer in range(self.total) if layer not in kept)


Choice = TypeVar("Choice")


class Removable(ABC, Generic[Choice]):
    """One kind of thing that can be removed; an instance belongs to one recipe.

    Structures of one ``order`` are chosen from the same model and one measurement, then cut; lower orders come first.
    """

    name: ClassVar[str]
    """Name in provenance records."""
    option: ClassVar[str]
    """The option of the recipe that says how much is removed."""
    label: ClassVar[str]
    """The kind in words, plural, for reports."""
    order: ClassVar[int]
    """Place among the other kinds."""
    ranked_by: ClassVar[Granularity | None]
    """What of a criterion ranks it; ``None`` if no criterion does."""
    is_structured: ClassVar[bool] = True
    """Whether the model becomes smaller; otherwise weights become zeros."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @classmethod
    def is_asked(cls, recipe: Recipe) -> bool:
        """Return whether a recipe asks to remove this kind."""
        return bool(getattr(recipe, cls.option))

    @property
    def amount(self) -> Any:
        """How much the recipe asks to remove; ``None`` if a search for a target decides."""
        return next(iter(getattr(self.recipe, self.option)), None)

    def needs(self, criterion: Criterion, named: Collection[DataKind]) -> Needs:  # noqa: ARG002 (tokens look at them)
        """Return what is measured to choose, if data of the kinds ``named`` are there."""
        return needs_of(criterion, () if self.ranked_by is None else (self.ranked_by,))

    @abstractmethod
    def check(self, model: SentenceTransformer) -> None:
        """Refuse a model that cannot lose what the recipe asks for.

        Raises:
            GapruneError: One of its kinds, which names the option or the layer.
        """

    def measured(self, model: SentenceTransformer) -> Sequence[LinearLayer]:  # noqa: ARG002
        """Return the linear layers of ``model`` whose inputs or gradients are measured to choose."""
        return ()

    @abstractmethod
    def parameters(self, model: SentenceTransformer) -> Iterable[Tensor]:
        """Return the parameters of ``model`` that belong to this kind: the selection that a sparsity refers to."""

    @abstractmethod
    def choose(self, model: SentenceTransformer, amount: Any, basis: Basis) -> Choice:
        """Return what of ``model`` is kept and what is removed."""

    @abstractmethod
    def cut(self, model: SentenceTransformer, choice: Choice) -> SentenceTransformer:
        """Return the model without what was removed. Structured cuts return a new model, zeros are set in place."""

    def columns(self, model: SentenceTransformer, choice: Choice) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return the kept input columns ``(in,)`` of linear layers by name, if reconstruction comes before the cut."""
        return {}

    def outputs(self, model: SentenceTransformer, choice: Choice) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return kept outputs of linear layers, indices ``(out,)`` by name, if others were cut before it."""
        return {}


@dataclass(frozen=True)
class StructuredPruning:
    """Everything that was removed."""

    cuts: tuple[RemovedUnits, ...]
    parent: int
    selected: int
    child: int

    @classmethod
    def of(
        cls,
        cuts: Sequence[RemovedUnits],
        parent: SentenceTransformer,
        child: SentenceTransformer,
        *,
        selected: Iterable[Tensor],
    ) -> Self:
        """Return the outcome; every selected parameter counts once, however many kinds it belongs to."""
        distinct = {id(parameter): parameter.numel() for parameter in selected}
        return cls(tuple(cuts), _size(parent), sum(distinct.values()), _size(child))

    def __str__(self) -> str:
        """Return a sentence for people."""
        return ", ".join(map(str, self.cuts))

    @property
    def removed(self) -> int:
        """Number of removed parameters."""
        return self.parent - self.child


def _size(model: SentenceTransformer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


_removables = Registry[Removable[Any]](__name__.rpartition(".")[0])
register = _removables.register


def available() -> list[type[Removable[Any]]]:
    """Return every registered class in the order in which things are removed."""
    return sorted(_removables.available(), key=lambda kind: (kind.order, kind.name))


def requested(recipe: Recipe) -> list[Removable[Any]]:
    """Return what a recipe asks to remove, in order: structures, or else single weights.

    Raises:
        GapruneError: One of its kinds if an option cannot be used.
    """
    asked = [kind for kind in available() if kind.is_asked(recipe)]
    structures = [kind for kind in asked if kind.is_structured]
    return [kind(recipe) for kind in structures or asked]


def stages(removables: Sequence[Removable[Any]]) -> list[list[Removable[Any]]]:
    """Return the same in groups that are chosen from one model and one measurement."""
    return [list(stage) for _, stage in groupby(removables, key=lambda each: each.order)]
